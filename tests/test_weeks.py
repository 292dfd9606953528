from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features.weeks import Calendar, ChartWeek

HOUR, TICK = timedelta(hours=1), timedelta(microseconds=1)
MONDAY, FRIDAY, SATURDAY, SUNDAY = 0, 4, 5, 6
ZONES = [
    ZoneInfo(name)
    for name in (
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Sao_Paulo",  # springs over midnight, falls back to the day before
        "America/Havana",
        "America/St_Johns",  # fell back at 00:01, over midnight
        "Asia/Beirut",
        "Australia/Lord_Howe",  # by half an hour
        "Pacific/Apia",  # had no 2011-12-30
        "Africa/Casablanca",  # by Ramadan
        "Atlantic/Azores",
    )
]


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def changes(zone: ZoneInfo) -> Iterator[datetime]:
    """The instants at which the zone's clocks change, 1970 to 2040, to the minute."""
    before = utc(1970, 1, 1)
    while before.year < 2040:
        after = before + timedelta(days=5)
        low, high = before, after
        if low.astimezone(zone).utcoffset() != high.astimezone(zone).utcoffset():
            while high - low > timedelta(minutes=1):
                middle = low + timedelta(minutes=(high - low) // timedelta(minutes=2))
                same = middle.astimezone(zone).utcoffset() == before.astimezone(zone).utcoffset()
                low, high = (middle, high) if same else (low, middle)
            yield high
        before = after


CHANGES = [(zone, instant) for zone in ZONES for instant in changes(zone)]
ANY_TIME = st.tuples(
    st.sampled_from(ZONES),
    st.datetimes(datetime(1970, 1, 1), datetime(2100, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
)
AROUND_CHANGES = st.builds(
    lambda change, by: (change[0], change[1] + by),
    st.sampled_from(CHANGES),
    st.timedeltas(timedelta(days=-1), timedelta(days=1)) | st.timedeltas(-HOUR, HOUR) | st.just(timedelta()),
)
MOMENTS = ANY_TIME | AROUND_CHANGES
WEEKDAYS = st.integers(0, 6)
WEEKS = st.dates(date(1, 1, 8), date(9999, 12, 1)).map(ChartWeek)


def walked_back(instant: datetime, first_weekday: int, zone: ZoneInfo) -> date:
    """The first day of the week, by a calendar on the wall whose leaf is torn off at midnight and never put back."""
    leaf = max((instant - timedelta(minutes=n)).astimezone(zone).date() for n in range(26 * 60))
    while leaf.weekday() != first_weekday:
        leaf -= timedelta(days=1)
    return leaf


@settings(max_examples=300)
@given(MOMENTS, WEEKDAYS)
def test_the_week_of_an_instant_is_the_one_that_a_calendar_on_the_wall_shows(
    moment: tuple[ZoneInfo, datetime], first_weekday: int
) -> None:
    zone, instant = moment
    assert Calendar(first_weekday, zone).week_of(instant).first_day == walked_back(instant, first_weekday, zone)


@pytest.mark.parametrize("zone", ZONES, ids=str)
@pytest.mark.parametrize("first_weekday", range(7))
def test_weeks_tile_time_around_every_change_of_clocks(zone: ZoneInfo, first_weekday: int) -> None:
    calendar = Calendar(first_weekday, zone)
    for instant in [utc(2000, 1, 1)] + [at for where, at in CHANGES if where is zone]:
        for moment in (instant - HOUR, instant - TICK, instant, instant + HOUR / 2):
            week = calendar.week_of(moment)
            assert calendar.start(week) <= moment < calendar.end(week) == calendar.start(week.after())


@given(MOMENTS, WEEKDAYS)
def test_a_week_holds_its_start_and_not_its_end(moment: tuple[ZoneInfo, datetime], first_weekday: int) -> None:
    zone, instant = moment
    calendar = Calendar(first_weekday, zone)
    week = calendar.week_of(instant)
    assert calendar.week_of(calendar.start(week) - TICK) == week.before()
    assert calendar.week_of(calendar.start(week)) == week
    assert calendar.week_of(calendar.end(week) - TICK) == week
    assert calendar.week_of(calendar.end(week)) == week.after()


@given(MOMENTS, WEEKDAYS, st.sampled_from(ZONES))
def test_the_zone_an_instant_is_told_in_changes_no_week(
    moment: tuple[ZoneInfo, datetime], first_weekday: int, told_in: ZoneInfo
) -> None:
    zone, instant = moment
    calendar = Calendar(first_weekday, zone)
    assert calendar.week_of(instant.astimezone(told_in)) == calendar.week_of(instant)


@pytest.mark.parametrize(
    ("zone", "first_weekday", "name", "hours"),
    [
        ("UTC", MONDAY, "2024-W13", 168),
        ("Europe/Berlin", MONDAY, "2024-W12", 168),
        ("Europe/Berlin", MONDAY, "2024-W13", 167),
        ("Europe/Berlin", MONDAY, "2024-W43", 169),
        ("Europe/Berlin", SUNDAY, "2024-W12", 168),  # ends as the day of the change begins
        ("Europe/Berlin", SUNDAY, "2024-W13", 167),
        ("America/New_York", FRIDAY, "2024-W10", 167),
        ("America/Havana", SUNDAY, "2024-W09", 168),
        ("America/Havana", SUNDAY, "2024-W10", 167),
        ("Australia/Lord_Howe", MONDAY, "2024-W14", 168.5),
        ("Australia/Lord_Howe", MONDAY, "2024-W40", 167.5),
        ("Pacific/Apia", MONDAY, "2011-W52", 144),
    ],
)
def test_a_week_has_the_hours_that_its_clocks_have(zone: str, first_weekday: int, name: str, hours: float) -> None:
    calendar = Calendar(first_weekday, ZoneInfo(zone))
    week = calendar.parse(name)
    assert (calendar.end(week) - calendar.start(week)) / HOUR == hours


@pytest.mark.parametrize(
    ("zone", "first_weekday", "name", "start"),
    [
        ("America/Havana", SUNDAY, "2024-W10", utc(2024, 3, 10, 5)),  # 00:00 to 01:00 was skipped
        ("America/Sao_Paulo", SUNDAY, "2018-W44", utc(2018, 11, 4, 3)),
        ("Asia/Beirut", SUNDAY, "2024-W13", utc(2024, 3, 30, 22)),
        ("Pacific/Apia", FRIDAY, "2011-W52", utc(2011, 12, 30, 10)),  # the Friday that was not
        ("Pacific/Apia", SATURDAY, "2011-W52", utc(2011, 12, 30, 10)),  # and the Saturday that came instead
        ("America/St_Johns", SUNDAY, "2006-W43", utc(2006, 10, 29, 2, 30)),  # the first of two midnights
        ("America/Sao_Paulo", SUNDAY, "2018-W07", utc(2018, 2, 18, 3)),  # 23:00 came twice, midnight once
    ],
)
def test_a_week_starts_at_the_first_instant_of_its_first_day(
    zone: str, first_weekday: int, name: str, start: datetime
) -> None:
    calendar = Calendar(first_weekday, ZoneInfo(zone))
    week = calendar.parse(name)
    assert calendar.start(week) == start
    assert calendar.week_of(start) == week
    assert calendar.week_of(start - TICK) == week.before()


def test_a_day_that_has_begun_does_not_end_when_clocks_are_set_back_over_midnight() -> None:
    calendar = Calendar(SUNDAY, ZoneInfo("America/St_Johns"))
    saturday_again = utc(2006, 10, 29, 2, 45)
    assert saturday_again.astimezone(calendar.zone).isoformat() == "2006-10-28T23:15:00-03:30"
    assert calendar.week_of(saturday_again).first_day == date(2006, 10, 29)


@given(WEEKS)
@example(ChartWeek(date(2026, 12, 28)))
@example(ChartWeek(date(2027, 1, 3)))
def test_a_name_gives_its_week_back_for_every_first_weekday(week: ChartWeek) -> None:
    assert Calendar(week.first_day.weekday()).parse(week.name) == week
    assert str(week) == week.name


@given(WEEKS, st.integers(-60, 60))
@example(ChartWeek(date(2026, 12, 28)), 1)
@example(ChartWeek(date(1000, 1, 1)), -20)
def test_names_differ_and_sort_as_the_weeks_do(week: ChartWeek, n: int) -> None:
    try:
        other = week.after(n)
    except OverflowError:
        return
    assert (other.name < week.name, other.name == week.name) == (n < 0, n == 0)
    assert (other < week, other == week) == (n < 0, n == 0)


@pytest.mark.parametrize(
    ("first_day", "name"),
    [
        (date(2023, 6, 12), "2023-W24"),
        (date(2026, 12, 28), "2026-W53"),
        (date(2027, 1, 1), "2026-W53"),  # a Friday: by the ISO week of the start
        (date(2025, 12, 29), "2026-W01"),
        (date(1, 1, 1), "0001-W01"),
    ],
)
def test_weeks_are_named_by_the_iso_week_of_their_first_day(first_day: date, name: str) -> None:
    assert ChartWeek(first_day).name == name


@pytest.mark.parametrize("first_weekday", range(7))
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("2025-W53", "week '2025-W53' does not exist: Invalid week: 53"),
        ("2023-W00", "week '2023-W00' does not exist: Invalid week: 0"),
        ("0000-W01", "week '0000-W01' does not exist"),
        ("2023-24", "week '2023-24' is not of the form 2023-W24"),
        ("", "week '' is not of the form 2023-W24"),
        ("2023-W24\n", r"week '2023-W24\n' is not of the form 2023-W24"),
        ("２０２３-W24", "week '２０２３-W24' is not of the form 2023-W24"),  # noqa: RUF001
    ],
)
def test_a_name_without_a_week_is_refused_in_a_sentence(name: str, why: str, first_weekday: int) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Calendar(first_weekday).parse(name)
    assert str(error.value).startswith(why)


def test_a_name_whose_first_day_is_beyond_the_year_9999_is_refused_in_a_sentence() -> None:
    assert Calendar(FRIDAY).parse("9999-W52").first_day == date(9999, 12, 31)
    with pytest.raises(ValueError, match="week '9999-W52' does not exist"):
        Calendar(SUNDAY).parse("9999-W52")


@given(st.sampled_from(ZONES), WEEKDAYS, st.booleans(), st.timedeltas(timedelta(), timedelta(days=21)))
@example(ZONES[0], MONDAY, True, timedelta())
def test_at_the_edges_of_time_an_instant_has_the_right_week_or_none(
    zone: ZoneInfo, first_weekday: int, is_early: bool, inwards: timedelta
) -> None:
    instant = utc(1, 1, 1) + inwards if is_early else datetime.max.replace(tzinfo=UTC) - inwards
    calendar = Calendar(first_weekday, zone)
    try:
        week = calendar.week_of(instant)
        assert week.first_day.weekday() == first_weekday
        assert calendar.start(week) <= instant < calendar.end(week)
    except OverflowError:
        assert inwards < timedelta(days=9)


@pytest.mark.parametrize("instant", [datetime.max.replace(tzinfo=UTC), utc(9999, 12, 27)])
def test_the_week_that_would_end_in_the_year_10000_overflows(instant: datetime) -> None:
    with pytest.raises(OverflowError):
        Calendar().week_of(instant)


def test_the_week_that_would_begin_before_the_year_1_overflows() -> None:
    assert Calendar(MONDAY).week_of(utc(1, 1, 1)).name == "0001-W01"
    with pytest.raises(OverflowError):
        Calendar(SUNDAY).week_of(utc(1, 1, 1))
    with pytest.raises(OverflowError):
        Calendar(MONDAY, ZoneInfo("America/New_York")).week_of(utc(1, 1, 1))
    with pytest.raises(OverflowError):
        ChartWeek(date(1, 1, 1)).before()


def test_a_span_ends_with_its_week_and_begins_no_earlier_than_time() -> None:
    week = Calendar().parse("2027-W02")
    assert [each.name for each in week.span(4)] == ["2026-W52", "2026-W53", "2027-W01", "2027-W02"]
    assert week.span(1) == [week]
    assert week.span(0) == []
    assert [each.name for each in Calendar().parse("0001-W02").span(12)] == ["0001-W01", "0001-W02"]
