"""Which lists a request asks for; who asks for what is not there learns what is."""

from collections.abc import Sequence

from features.weeks import ChartWeek
from producers.playlists import Playlist
from service.documented import LATEST
from service.lists import Lists
from service.parts import Parts
from service.problems import not_now, unknown, wrong

NO_LIST = "no list has been published yet: run `hitparade trigger` and `hitparade consume weekly`"
LONGEST_WEEK = 16
MOST_NAMED = 10


def read_lists(parts: Parts) -> Lists:
    """The lists; there may be none.

    Raises:
        Problem: 503, they have not been read yet.
    """
    reach = parts.memory.figures.lists
    if not reach.ok:
        raise not_now(f"the lists are not known yet ({reach.reason}): ask again; /readyz tells what is not ready")
    return parts.memory.lists


def published(parts: Parts) -> Lists:
    """The lists, of which there are some.

    Raises:
        Problem: 503, they have not been read yet; 404, there is none.
    """
    lists = read_lists(parts)
    if not lists.weeks():
        raise unknown(NO_LIST)
    return lists


def parsed_week(parts: Parts, name: str) -> ChartWeek:
    """The week of a name.

    Raises:
        Problem: 422, it is none.
    """
    try:
        return parts.calendar.parse(name)
    except ValueError as cause:
        said = str(cause) if len(name) <= LONGEST_WEEK else "expected a week such as 2025-W12"
        raise wrong("week", f"{said}; `{LATEST}` is the last one that has lists") from cause


def named_week(parts: Parts, lists: Lists, name: str) -> str:
    """The name of a week that has lists.

    Raises:
        Problem: 422, it is no week; 404, it has none.
    """
    weeks = lists.weeks()
    if name == LATEST:
        return weeks[-1]
    week = parsed_week(parts, name).name
    if week not in weeks:
        raise unknown(
            f"there is no list for week {week}: /weeks names the {len(weeks)} that have some, {weeks[0]} to {weeks[-1]}"
        )
    return week


def one(lists: Lists, week: str, group: str, revision: int | None) -> Playlist:
    """A group's list for a week, the last revision unless asked otherwise.

    Raises:
        Problem: 404, naming those that there are.
    """
    known = lists.revisions(week, group)
    if not known:
        groups = [playlist.group for playlist in lists.of_week(week)]
        raise unknown(f"week {week} has no list of that group: expected one of {_named(groups)}")
    found = [playlist for playlist in known if revision in (None, playlist.revision)]
    if not found:
        numbers = _named([str(playlist.revision) for playlist in known])
        raise unknown(f"that revision is not remembered: expected one of {numbers}")
    return found[-1]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(name[:64] for name in names[:MOST_NAMED]) + more
