"""The page of one track: what is known of it, and its last twelve weeks."""

from fastapi import Response

from consumers.why import Explanations
from service.parts import Parts
from service.rendering import html
from service.standings import N_WEEKS, plays
from service.track import about


def track_page(parts: Parts, explanations: Explanations, track_id: str) -> Response:
    """All that is known of a track.

    Raises:
        Problem: nothing is.
    """
    found, lists = about(parts, explanations, track_id), parts.memory.lists
    listed = lists.weeks()
    newest = parts.calendar.parse(listed[-1]) if listed else None
    ranks: dict[str, dict[str, int]] = {}
    for place in found.places:
        ranks.setdefault(place.week, {})[place.group] = place.rank
    return html(
        "track.html",
        track=found,
        latest=lists.latest(),
        weeks=[week.name for week in newest.span(N_WEEKS)] if newest else [],
        listed=listed,
        groups=sorted({place.group for place in found.places}),
        ranks=ranks,
        known=plays(lists, newest).get(track_id, {}) if newest else {},
        missing=dict(reason.split(": ", 1) for reason in found.missing),
    )
