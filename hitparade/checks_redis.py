"""What can be wrong with Redis: each check says in a sentence what is well, or raises what is not, and what to do."""

from features.vitals import Replica
from hitparade import wiring
from hitparade.doctor import Careful, Check, Patient, Wrong
from hitparade.settings import PREFIX
from hitparade.sizing import size

FULL = 0.9  # of its memory
SILENT_S = 10  # a replica tells every second how far it is
BEHIND = 64 * 2**20  # bytes; more than counting writes in a second


def answers(patient: Patient) -> str:
    """It answers, and takes writes."""
    for node in patient.redis:
        if node.master:
            raise Wrong(
                f"{patient.settings.shown('redis_url')} is a replica of {node.master} and takes no writes: set "
                f"{PREFIX}REDIS_URL to its master (or to redis+sentinel://…, which finds it)"
            )
        if node.is_loading:
            raise Wrong(f"{node.where}{node.name} is loading its data: wait until it has, nothing else is to be done")
    names = sorted({node.name for node in patient.redis})
    return f"{patient.settings.shown('redis_url')} answers, {' and '.join(names)}"


def safety(patient: Patient) -> str:
    """It forgets nothing."""
    wiring.check_safety(patient.sessions)
    return "noeviction and append-only"


def memory(patient: Patient) -> str:
    """There is room for more."""
    for node in patient.redis:
        if node.limit and node.used >= FULL * node.limit:
            advice = f"raise maxmemory, or lower {PREFIX}WEEKS_KEPT; what it is full of, `redis-cli --memkeys` tells"
            text = f"{node.where}{size(node.used)} of {size(node.limit)} are used"
            if node.used >= node.limit:
                raise Wrong(f"{text}, and every write is refused: {advice}")
            raise Careful(f"{text}: {advice}")
    used, limit = (sum(getattr(node, name) for node in patient.redis) for name in ("used", "limit"))
    return f"{size(used)} of {size(limit)} are used"


def disk(patient: Patient) -> str:
    """What it wrote last went well."""
    failed = [f"{node.where}{text}" for node in patient.redis for text in node.failed]
    if failed:
        raise Wrong(
            f"{' and '.join(failed)} has failed, and writes may be refused: make room on the disk of Redis, or see in "
            "its log why it cannot write; it goes on by itself then"
        )
    return "what Redis wrote last went well"


def replicas(patient: Patient) -> str:
    """Its copies are there, and follow."""
    for node in patient.redis:
        if node.good_replicas < node.wanted_replicas:
            raise Wrong(
                f"{node.where}{node.good_replicas} replicas follow, expected {node.wanted_replicas} "
                "(min-replicas-to-write), and every write is refused: bring replicas up, or lower the setting"
            )
        if lagging := [replica for replica in node.replicas if _lags(replica)]:
            said = "; ".join(f"{r.address} lacks {size(r.behind)}, last heard {r.silent_s} s ago" for r in lagging)
            raise Careful(
                f"{node.where}replicas lag, and would lose that much if they took over: {said}. Look at the replica's "
                "log, its disk and the network between"
            )
    n_replicas = sum(len(node.replicas) for node in patient.redis)
    return f"{n_replicas} follow closely" if n_replicas else "there are none"


def _lags(replica: Replica) -> bool:
    return not replica.is_online or replica.silent_s >= SILENT_S or replica.behind >= BEHIND


REDIS = (
    Check("redis", answers),
    Check("redis safety", safety, ("redis",)),
    Check("redis memory", memory, ("redis",)),
    Check("redis disk", disk, ("redis",)),
    Check("redis replicas", replicas, ("redis",)),
)
