"""Simulated experiments: what a treatment does, what damage does, and that the truth is told before any of it."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from features.weeks import Calendar, ChartWeek
from models.experiments import Experiment, Experiments, Group
from models.usage import USAGE
from producers.chance import stream
from producers.climates import CLIMATES
from producers.damage import Damage
from producers.listeners import FIRST_USER
from producers.simulator import Simulation, live, write
from producers.treatment import ListsError, Treatment, lists_of, read_lists, times
from producers.truth import METRICS, against, expected, truth
from producers.usage import weekly_usage
from tests.commands import run

START = ChartWeek(date(2025, 1, 6))
FELT = Treatment(plays=0.5, skips=-0.4, likes=0.6)
ALL_DAMAGE = Damage(bots=2, lost=0.2, duplicates=0.1, late=0.1)
Capture = pytest.CaptureFixture[str]


def experiments(first: ChartWeek | None = None, control: float = 0.5, treatment: float = 0.5) -> Experiments:
    groups = (Group("control", control, "naive"), Group("treatment", treatment, "naive"))
    return Experiments((Experiment("test", "salt", first, None, groups),))


def world(**changes: Any) -> Simulation:
    return replace(Simulation(3, 60, 200, 1, START, experiments=experiments()), **changes)


def events(simulation: Simulation) -> list[dict[str, Any]]:
    return [json.loads(line) for line in simulation.events()]


def group_of(simulation: Simulation, user: object) -> str:
    return simulation.experiment(START).group_of(str(user))


def slow_usage(simulation: Simulation) -> dict[str, dict[str, tuple[Any, ...]]]:
    """By week and user what USAGE has of him, from the lines of the events."""
    calendar, seen = simulation.calendar, set[str]()
    found: dict[str, dict[str, dict[str, Any]]] = {week.name: {} for week in simulation.chart_weeks()}
    for event in events(simulation):
        if event["event_type"] == "advertisment" or event.get("event_id", "") in seen:
            continue
        seen |= {event["event_id"]} if "event_id" in event else set()
        time = datetime.fromisoformat(event["timestamp"]).replace(tzinfo=UTC)
        week, user = calendar.week_of(time), str(event["user_id"])
        group = simulation.experiment(week).group_of(user)
        row = found[week.name].setdefault(user, {"group": group, "counts": Counter(), "days": set()})
        row["counts"][event["event_type"]] += 1
        row["counts"]["listed", event["event_type"]] += event["track_id"] in simulation.listed(week, group)
        row["days"].add(time.astimezone(calendar.zone).date())
    kinds = ("play", "skip", "like")
    return {
        week: {
            user: (
                row["group"],
                *(row["counts"][kind] for kind in kinds),
                *(row["counts"]["listed", kind] for kind in kinds),
                len(row["days"]),
                False,
            )
            for user, row in rows.items()
        }
        for week, rows in found.items()
    }


@pytest.mark.parametrize(
    "calendar", [Calendar(), Calendar(4, ZoneInfo("Europe/Berlin")), Calendar(6, ZoneInfo("America/New_York"))]
)
@pytest.mark.parametrize("damage", [Damage(), ALL_DAMAGE])
def test_the_use_that_is_drawn_is_the_use_that_the_events_tell_of(calendar: Calendar, damage: Damage) -> None:
    start = calendar.week_of(datetime(2025, 3, 5, 12, tzinfo=UTC))  # the clocks of both zones change near by
    simulation = world(
        start=start, weeks=5, calendar=calendar, treatment=FELT, damage=damage, experiments=experiments(start.after(1))
    )
    slow = slow_usage(simulation)
    for week, table in weekly_usage(simulation):
        assert table.schema == USAGE
        users = table["user_id"].to_pylist()
        assert users == sorted(users)
        rows = zip(*(table[name].to_pylist() for name in USAGE.names[1:]), strict=True)
        assert dict(zip(users, rows, strict=True)) == slow[week.name]


def deviations(simulation: Simulation, times: int) -> dict[str, float]:
    """How far the mean use of all weeks is from what is expected, in standard errors, by many seeds."""
    weeks = simulation.chart_weeks()
    wanted = expected(simulation, weeks, "treatment", True)
    sums: list[Counter[str]] = []
    for seed in range(times):
        heard = replace(simulation)
        listened(heard, simulation, seed)
        total = Counter[str]()
        users = set[str]()
        for _, table in weekly_usage(heard):
            users |= set(table["user_id"].to_pylist())
            total.update({name: sum(table[name].to_pylist()) for name in USAGE.names[2:9]})
        sums.append(total + Counter({"active": len(users)}))
    found = {}
    for name, mean in wanted.items():
        counts = [total[name] for total in sums]
        spread = (sum((count - fmean(counts)) ** 2 for count in counts) / (times - 1) / times) ** 0.5
        found[name] = (fmean(counts) - mean) / max(spread, 0.002 * mean)
    return found


def listened(heard: Simulation, like: Simulation, seed: int) -> None:
    """The same world, listened to by another chance."""
    vars(heard)["hidden_tracks"], vars(heard)["listeners"] = like.hidden_tracks, like.listeners
    vars(heard)["_rates"] = vars(like)["_rates"]
    object.__setattr__(heard, "seed", 1000 + seed)


@pytest.mark.parametrize("climate", ["mixed", "fast"])
@pytest.mark.parametrize(
    "treatment", [Treatment(), FELT, Treatment(plays=-0.8, skips=0.3, likes=-0.5), Treatment(plays=0.9, half_life=1.0)]
)
def test_the_truth_is_the_mean_of_what_is_drawn_again_and_again(treatment: Treatment, climate: str) -> None:
    everyone = experiments(control=0.0, treatment=1.0)
    simulation = world(
        users=25, weeks=2, experiments=everyone, treatment=treatment, skew=0.5, climate=CLIMATES[climate]
    )
    found = deviations(simulation, times=50)
    days = found.pop("active_days")
    assert all(abs(deviation) < 4 for deviation in found.values()), found
    assert -2 < days < 10, "sessions that run past midnight are a day more"


def test_the_effect_is_on_the_listed_tracks_of_those_who_get_the_list_alone() -> None:
    simulation = world(users=400, weeks=2, treatment=FELT)
    plain = replace(simulation, treatment=Treatment())
    for group, listed in (("control", [1, 1, 1]), ("treatment", [1.5, 0.6, 1.6])):
        felt, without = totals(simulation, group), totals(plain, group)
        assert ratios(felt, without, "listed_") == pytest.approx(listed, abs=0.12)
        for of in (felt, without):
            of.update({f"other_{kind}": of[kind] - of[f"listed_{kind}"] for kind in ("plays", "skips", "likes")})
        assert ratios(felt, without, "other_") == pytest.approx([1, 1, 1], abs=0.12)


def ratios(felt: Counter[str], without: Counter[str], of: str) -> list[float]:
    """What has become of plays, of skips per play, and of likes per play that was not skipped."""
    found = []
    for counts in (felt, without):
        plays, skips, likes = (counts[f"{of}{kind}"] for kind in ("plays", "skips", "likes"))
        found.append((plays, skips / plays, likes / (plays - skips)))
    return [here / there for here, there in zip(*found, strict=True)]


def totals(simulation: Simulation, group: str) -> Counter[str]:
    found = Counter[str]()
    for _, table in weekly_usage(simulation):
        chosen = [name == group for name in table["group"].to_pylist()]
        for name in USAGE.names[2:8]:
            found[name] += sum(n for n, is_it in zip(table[name].to_pylist(), chosen, strict=True) if is_it)
    return found


def test_the_rates_that_a_list_is_judged_by_know_of_the_effect_and_not_of_the_damage() -> None:
    week = START.after()
    simulation = world(treatment=FELT, users=400)
    plain = replace(simulation, treatment=Treatment())
    listed = simulation.listed(week, "treatment")
    ratios = {track: simulation.rates(week)[track] / rate for track, rate in plain.rates(week).items() if rate}
    assert {round(ratio, 6) for track, ratio in ratios.items() if track not in listed} == {1.0}
    assert all(1.1 < ratios[track] < 1.4 for track in listed)
    assert fmean(ratios[track] for track in listed) == pytest.approx(1.25, abs=0.03)
    assert replace(simulation, damage=ALL_DAMAGE).rates(week) == simulation.rates(week)


def test_without_lists_those_expected_to_be_played_most_the_week_before_are_listed() -> None:
    simulation = world(climate=CLIMATES["fast"])
    for n, week in enumerate(simulation.chart_weeks()):
        rates = simulation.rates(simulation.chart_weeks()[max(0, n - 1)])
        best = sorted(rates, key=lambda track: (-rates[track], track))[:50]
        assert simulation.listed(week, "control") == simulation.listed(week, "treatment") == set(best)


def test_given_lists_are_those_whose_tracks_the_effect_is_on() -> None:
    ids = [track["id"] for track in world().catalogue()][:20]
    records = [
        {"week": week.name, "group": group, "tracks": [{"track_id": track_id} for track_id in tracks]}
        for week in world().chart_weeks()
        for group, tracks in (("control", ids[:10]), ("treatment", [*ids[10:], "not of the catalogue"]))
    ]
    simulation = world(treatment=replace(FELT, lists=lists_of(records)), users=300)
    week = START.after()
    plain = replace(simulation, treatment=Treatment()).rates(week)
    assert {track for track, rate in simulation.rates(week).items() if rate > 1.05 * plain[track]} == set(ids[10:]) & {
        track for track, rate in plain.items() if rate
    }
    with pytest.raises(ValueError, match="expected a list of group 'treatment' for each week, found none for 2025-W05"):
        replace(simulation, weeks=4)


def test_novelty_halves_the_effect_from_the_first_simulated_week_of_the_experiment_on() -> None:
    treatment = Treatment(plays=0.8, half_life=1.0)
    simulation = world(weeks=5, treatment=treatment, experiments=experiments(START.after(2)))
    assert [simulation.responses(week) for week in simulation.chart_weeks()[:2]] == [{}, {}]
    assert [simulation.response(week).plays for week in simulation.chart_weeks()[2:]] == pytest.approx([1.8, 1.4, 1.2])


def test_contamination_swaps_the_lists_of_a_share_of_each_group_and_dilutes_what_is_seen() -> None:
    simulation = world(users=2000, treatment=replace(FELT, contaminated=0.2))
    reached = simulation.responses(START)
    shares = {
        group: fmean(
            listener.user_id in reached
            for listener in simulation.listeners
            if group_of(simulation, listener.user_id) == group
        )
        for group in ("control", "treatment")
    }
    assert shares == pytest.approx({"control": 0.2, "treatment": 0.8}, abs=0.03)
    assert simulation.responses(START.after()).keys() == reached.keys()
    small = world(treatment=replace(FELT, contaminated=0.2))
    found = against(small, small.chart_weeks(), "control")["plays_per_active_user"]
    assert found["seen_effect"] == pytest.approx(0.6 * found["effect"], rel=1e-9)
    assert found["relative"] > 0.2


def test_the_truth_of_no_effect_is_nothing_in_every_metric() -> None:
    for found in against(world(skew=1.0, damage=ALL_DAMAGE), [START], "control").values():
        assert found["effect"] == found["seen_effect"] == 0
        assert found["other"] > 0


def test_the_truth_does_not_depend_on_what_is_drawn() -> None:
    simulation = world(treatment=FELT)
    before = truth(simulation)
    list(simulation.events())
    assert truth(simulation) == before == truth(replace(simulation, damage=ALL_DAMAGE))
    (only,) = before
    assert only["weeks"] == ["2025-W02", "2025-W03", "2025-W04"]
    assert set(only["against"]["control"]) == set(METRICS)


def test_metrics_of_the_truth_are_those_of_the_report() -> None:
    from models.measures import METRICS as REPORTED

    assert {metric.name for metric in REPORTED} == METRICS.keys()


def test_a_bot_plays_one_track_all_day_every_day_and_nobody_else_listens_otherwise() -> None:
    plain, botted = world(), world(damage=Damage(bots=2))
    bots = Counter(e["user_id"] for e in events(botted) if e["user_id"] in botted.bots)
    assert set(bots) == {FIRST_USER + 60, FIRST_USER + 61}
    for bot in bots:
        of_bot = [e for e in events(botted) if e["user_id"] == bot]
        assert {e["event_type"] for e in of_bot} == {"play"}
        (track,) = {e["track_id"] for e in of_bot}
        length = next(t["duration_ms"] for t in botted.catalogue() if t["id"] == track) / 1000
        assert len(of_bot) == 21 * int(86400 / length)
        assert len({e["session_id"] for e in of_bot}) == 21
        assert len({e["timestamp"][:10] for e in of_bot}) == 21

    def others(simulation: Simulation) -> Counter[tuple[object, ...]]:
        listeners = [e for e in events(simulation) if e["user_id"] not in simulation.bots]
        return Counter((e["timestamp"][:19], e["user_id"], e["track_id"], e["event_type"]) for e in listeners)

    assert others(plain) == others(botted)


def test_lost_users_are_of_one_group_and_lose_all_and_the_others_nothing() -> None:
    plain, damaged = (
        Counter(e["user_id"] for e in events(world(users=400, damage=d))) for d in (Damage(), Damage(lost=0.3))
    )
    lost = {user for user in plain if user not in damaged}
    assert {group_of(world(), user) for user in lost} == {"treatment"}
    in_group = [user for user in plain if group_of(world(), user) == "treatment"]
    assert len(lost) / len(in_group) == pytest.approx(0.3, abs=0.08)
    assert all(damaged[user] == plain[user] for user in damaged)


def test_duplicates_are_the_same_bytes_soon_after_and_every_event_has_an_id() -> None:
    simulation = world(damage=Damage(duplicates=0.2))
    timed = list(simulation.timed_events())
    arrivals: dict[bytes, list[datetime]] = {}
    for arrival, line in timed:
        arrivals.setdefault(line, []).append(arrival)
    assert len({json.loads(line)["event_id"] for line in arrivals}) == len(arrivals)
    assert {len(of_line) for of_line in arrivals.values()} == {1, 2}
    assert all(of_line[-1] - of_line[0] <= timedelta(minutes=1) for of_line in arrivals.values())
    assert (len(timed) - len(arrivals)) / len(arrivals) == pytest.approx(0.2, abs=0.03)
    plain = [line[:-1] for line in world().events()]
    assert sorted(line.split(b', "event_id"')[0] for line in arrivals) == sorted(plain)


def test_late_events_keep_their_time_and_come_within_two_weeks_in_the_order_of_arrival() -> None:
    simulation = world(damage=Damage(late=0.1))
    timed = list(simulation.timed_events())
    assert all(before <= after for (before, _), (after, _) in pairwise(timed))
    assert Counter(line for _, line in timed) == Counter(world().events())
    waits = [
        arrival - datetime.fromisoformat(json.loads(line)["timestamp"]).replace(tzinfo=UTC) for arrival, line in timed
    ]
    late = [wait for wait in waits if wait]
    assert len(late) / len(timed) == pytest.approx(0.1, abs=0.02)
    assert timedelta() < min(late) < max(late) < timedelta(days=14)
    assert fmean(wait.days for wait in late) == pytest.approx(6.5, abs=0.7)


def test_skew_spreads_users_and_leaves_their_mean() -> None:
    plain, skewed = world(users=3000), world(users=3000, skew=0.8)
    rates = [[listener.sessions_a_week for listener in one.listeners] for one in (plain, skewed)]
    means = [fmean(of_one) for of_one in rates]
    spreads = [
        fmean((rate - mean) ** 2 for rate in of_one) ** 0.5 / mean for of_one, mean in zip(rates, means, strict=True)
    ]
    assert means[1] == pytest.approx(means[0], rel=0.06)
    assert spreads[0] == pytest.approx(0.39, abs=0.03)
    assert spreads[1] == pytest.approx(((1 + 0.39**2) * 2.718281828 ** (0.8**2) - 1) ** 0.5, rel=0.15)


def test_a_factor_is_met_in_the_mean_by_whole_numbers_and_one_draws_nothing() -> None:
    rng = stream(1, "test")
    state = rng.getstate()
    assert {times(rng, 1.0) for _ in range(9)} == {1}
    assert rng.getstate() == state
    for factor in (0.0, 0.3, 1.25, 2.0):
        assert fmean(times(rng, factor) for _ in range(4000)) == pytest.approx(factor, abs=0.03)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"treatment": Treatment("other", plays=0.1)},
            "no experiment has a group 'other' in any of the weeks 2025-W02 to",
        ),
        ({"damage": Damage(lost=0.1, lost_group="x")}, "no experiment has a group 'x'"),
        ({"treatment": FELT, "experiments": experiments(START.after(9))}, "no experiment has a group 'treatment'"),
        ({"skew": 3.5}, "skew is 3.5; expected 0 to 3"),
    ],
)
def test_an_experiment_that_cannot_be_is_refused(changes: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        world(**changes)


@pytest.mark.parametrize(
    "wrong", [lambda: Treatment(plays=1.5), lambda: Treatment(contaminated=2), lambda: Treatment(half_life=0.0),
              lambda: Damage(bots=-1), lambda: Damage(late=1.0), lambda: Damage(lost=-0.1)]
)  # fmt: skip
def test_a_treatment_or_damage_without_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        wrong()


def test_written_files_hold_the_truth_and_lists_that_can_be_given_back(tmp_path: Path) -> None:
    simulation = world(treatment=FELT, damage=Damage(bots=1))
    write(simulation, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "sessions.jsonl", "tracks.jsonl", "truth.jsonl", "experiment.json", "lists.jsonl",
    }  # fmt: skip
    record = json.loads((tmp_path / "experiment.json").read_text())
    assert record["experiments"] == json.loads(json.dumps(truth(simulation)))
    assert (record["treatment"]["plays"], record["damage"]["bots"], record["bots"]) == (0.5, 1, ["161"])
    again = replace(simulation, treatment=replace(FELT, lists=read_lists(tmp_path / "lists.jsonl")))
    assert list(again.events()) == list(simulation.events())


def test_lists_that_are_none_are_refused_by_file(tmp_path: Path) -> None:
    file = tmp_path / "lists"
    for text, message in (("{", "is not JSON"), ("{}", "expected playlists"), ("[1]", "expected playlists")):
        file.write_text(text)
        with pytest.raises(ListsError, match=message):
            read_lists(file)
    with pytest.raises(ListsError, match="cannot be read: No such file"):
        read_lists(tmp_path / "none")


def test_a_treated_world_is_the_same_bytes_from_the_same_seed() -> None:
    simulation = world(treatment=replace(FELT, half_life=2.0, contaminated=0.1), damage=ALL_DAMAGE, skew=0.5)
    found = sha256(b"\n".join(simulation.events())).hexdigest()
    assert found == sha256(b"\n".join(replace(simulation).events())).hexdigest()
    assert found[:16] == "89998e9b518fa35c"


def test_a_live_experiment_sends_what_comes_late_and_twice_when_it_is_due() -> None:
    clock = [datetime(2025, 1, 7, 12, tzinfo=UTC)]

    def sleep(seconds: float) -> None:
        clock[0] += timedelta(seconds=seconds)

    simulation = world(users=300, weeks=1, treatment=FELT, damage=ALL_DAMAGE)
    end = clock[0] + timedelta(hours=3)
    lines = list(live(simulation, lambda: clock[0], sleep, lambda: clock[0] > end))
    assert 0 < len(set(lines)) < len(lines)


def test_options_make_the_experiment_and_none_changes_nothing(tmp_path: Path, capsys: Capture) -> None:
    def written(*options: str) -> dict[str, bytes]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        ended = run(
            capsys, "simulate", "--weeks", "2", "--users", "30", "--tracks", "80", *options, "--out", str(folder)
        )
        assert (ended.code, ended.err) == (0, "")
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    plain = written()
    assert set(plain) == {"sessions.jsonl", "tracks.jsonl", "truth.jsonl"}
    full = written(
        *"--treatment-plays 0.1 --treatment-skips -0.2 --treatment-likes 0.3 --novelty 2 --contamination 0.1".split(),
        *"--skew 0.5 --bots 1 --lost-users 0.1 --duplicates 0.05 --late 0.02".split(),
    )
    record = json.loads(full["experiment.json"])
    assert record["treatment"] == {
        "group": "treatment", "plays": 0.1, "skips": -0.2, "likes": 0.3, "half_life": 2.0, "contaminated": 0.1,
    }  # fmt: skip
    assert record["damage"] == {"bots": 1, "lost": 0.1, "lost_group": "treatment", "duplicates": 0.05, "late": 0.02}
    assert record["experiments"][0]["experiment"] == "neural-against-linear"
    assert full["tracks.jsonl"] == plain["tracks.jsonl"]
    null = written("--truth", str(tmp_path / "null.json"))
    assert null == plain
    assert json.loads((tmp_path / "null.json").read_text())["experiments"][0]["against"]["control"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--novelty 2", "--novelty changes an effect: expected --treatment-plays, -skips or -likes with it"),
        ("--contamination 0.1", "--contamination changes an effect"),
        ("--treatment-plays 2", "expected a change from -1 to 1, such as 0.05 for 5 % more, found '2'"),
        ("--treatment-skips nan", "expected a change from -1 to 1"),
        ("--lost-users 1", "expected a share from 0 to less than 1, found '1'"),
        ("--late -0.1", "expected a share from 0 to less than 1, found '-0.1'"),
        ("--bots 0", "expected a whole number from 1 on, found '0'"),
        ("--skew 4", "skew is 4; expected 0 to 3"),
        ("--treatment-plays 0.1 --treatment-group x", "no experiment has a group 'x'"),
        ("--treatment-plays 0.1 --lists nowhere", "--lists: nowhere cannot be read: No such file or directory"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: str, message: str, capsys: Capture, tmp_path: Path) -> None:
    ended = run(capsys, "simulate", "--weeks", "1", *options.split(), "--out", str(tmp_path / "out"))
    assert ended.code == 2
    assert message in ended.err
    assert not (tmp_path / "out").exists()
