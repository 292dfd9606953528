"""What can be wrong between Kafka and Redis: with the fences, and with what was counted."""

from collections.abc import Mapping
from contextlib import suppress

from consumers.beginning import Beginning, Stopped, beyond_end
from consumers.sessions import session_beginning
from consumers.tracks import track_beginning
from features.connect import StoreRefused
from features.fence import Fence, accounted
from features.reader import Standing, WeekError
from features.store import CounterStore
from hitparade import capacity, wiring
from hitparade.doctor import Careful, Check, Patient, Wrong
from hitparade.settings import PREFIX
from hitparade.sizing import size

LOOK_AGAIN_S = 2.0


def counters(patient: Patient) -> str:
    """Sessions can be counted on from where they stand."""
    log, settings = patient.logs["sessions"], patient.settings
    fences = _agreed(session_beginning(log, patient.sessions, wiring.rules(settings)), patient, "sessions")
    standing = Standing(fences, settings.calendar, settings.weeks_kept)
    try:
        kept = standing.kept()
    except WeekError as cause:  # new, and not wrong
        return _nothing(patient, fences, str(cause))
    counted = accounted([fence.tallies for fence in fences.values()])["counted"]
    return f"{counted:,} events counted, weeks {kept[0]} to {kept[-1]}, {len(fences)} partitions"


def _agreed(beginning: Beginning, patient: Patient, consumer: str) -> dict[int, Fence]:
    """The fences of a topic, each of which its consumer would go on from."""
    log = patient.logs[consumer]
    try:
        found = {partition: beginning.look(partition) for partition in sorted(log.ends)}
    except Stopped as cause:
        raise Wrong(str(cause)) from cause
    fences = {partition: fence for partition, fence in found.items() if fence}
    ends = patient.brokers.ends(log.topic, log.ends)  # asked after the fences, which move on meanwhile
    for partition, fence in fences.items():
        if fence.next_offset > ends[partition]:
            raise Wrong(str(beyond_end(log.topic, partition, fence, ends[partition])))
    return fences


def _nothing(patient: Patient, fences: dict[int, Fence], said: str) -> str:
    """Whether it is new, or looked for in the wrong place."""
    topic = patient.settings.topics.sessions
    others: list[str] = []
    with suppress(StoreRefused):  # to look at every key is a right that few have
        others = sorted(patient.sessions.topics() - {topic, patient.settings.topics.tracks})
    databases = [n for node in patient.redis for n in node.elsewhere]
    if fences or not (others or databases):
        return said
    there = f"counters of {', '.join(others[:5])}" if others else f"keys in database {', '.join(map(str, databases))}"
    raise Careful(
        f"nothing of {topic} is at {patient.settings.shown('redis_url')}, but {there}: if it was counted before, "
        f"{PREFIX}REDIS_URL (its host, or the database at its end) or {PREFIX}TOPIC_PREFIX is another than it was then"
    )


def catalogue(patient: Patient) -> str:
    """The catalogue can be kept on, and there is one where there are plays."""
    fences = _agreed(track_beginning(patient.logs["tracks"], patient.tracks), patient, "tracks")
    n_tracks = sum(patient.tracks.n_tracks(partition, "tracks") for partition in fences)
    if not n_tracks and any(fence.tallies.get("counted") for fence in patient.fences("sessions").values()):
        raise Careful(
            "no track is in the catalogue, and lists hold only tracks that are: `hitparade produce tracks FILE`, and "
            "`hitparade consume tracks`"
        )
    return f"{n_tracks:,} tracks"


def lag(patient: Patient) -> str:
    """What waits is being counted."""
    before = _waiting(patient)
    if not sum(before.values()):
        return "no record waits"
    patient.pause(LOOK_AGAIN_S)
    after = _waiting(patient)
    if standing := [name for name, n in after.items() if n and n >= before[name]]:
        said = ", ".join(f"{after[name]:,} records of {name} wait ({before[name]:,} before)" for name in standing)
        raise Careful(
            f"{said}, and do not become fewer in {LOOK_AGAIN_S:g} s: start `hitparade consume`, or more of it, up to "
            "one a partition; where one runs, its log says what holds it up"
        )
    return ", ".join(
        f"{n:,} records of {name} wait, {before[name] - n:,} fewer than before" for name, n in after.items()
    )


def _waiting(patient: Patient) -> dict[str, int]:
    """How many offsets lie between fence and end, by consumer."""
    waiting = {}
    for consumer, log in patient.logs.items():
        fences = patient.fences(consumer)
        begun = {p: fences[p].next_offset if p in fences else start for p, start in log.starts.items()}
        waiting[consumer] = sum(end - begun[p] for p, end in patient.brokers.ends(log.topic, begun).items())
    return waiting


def rebuilds(patient: Patient) -> str:
    """No rebuild was left half-way."""
    log = patient.logs["sessions"]
    begun = patient.sessions.shadow().fences(sorted(log.ends))
    if begun:
        raise Careful(
            f"a rebuild is under way or was interrupted, {len(begun)} of {len(log.ends)} partitions are counted twice: "
            "`hitparade rebuild` goes on with it, `hitparade rebuild --discard` gives it up"
        )
    return "none was left half-way"


def room(patient: Patient) -> str:
    """Redis will hold the weeks that are to be kept."""
    fences, kept = patient.fences("sessions"), patient.settings.weeks_kept
    n_groups = max((len(names) for fence in fences.values() for names in fence.groups.values()), default=1)
    n_tracks = _tracks_a_week(patient.sessions, fences)
    load = capacity.Load(1, n_tracks, kept, groups=n_groups)
    needed = int(n_tracks * capacity.bytes_per_track(load, capacity.measured()))
    limit = sum(node.limit for node in patient.redis)
    text = f"{kept} weeks of {n_tracks:,} tracks take about {size(needed)} of the {size(limit)} that Redis may use"
    if 0 < limit < needed:
        raise Careful(f"{text}: raise maxmemory, or lower {PREFIX}WEEKS_KEPT (`hitparade sizing` reckons)")
    return text


def _tracks_a_week(store: CounterStore, fences: Mapping[int, Fence]) -> int:
    """In the week that has most, each partition's by itself, as Redis keeps them."""
    weeks = {week for fence in fences.values() for week in fence.touched}
    sums = [sum(store.n_tracks(p, f"week:{week}") for p, f in fences.items() if week in f.touched) for week in weeks]
    return max(sums, default=0)


COUNTERS = (
    Check("counters", counters, ("newest records", "redis")),
    Check("catalogue", catalogue, ("newest records", "redis")),
    Check("lag", lag, ("counters", "catalogue")),
    Check("rebuild", rebuilds, ("newest records", "redis")),
    Check("room for all weeks", room, ("counters",)),
)
