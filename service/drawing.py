"""Pictures as SVG, drawn from numbers alone: shapes have classes, for the policy allows no style on an element."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from service.standings import Weeks

SLOT, BAR, HEIGHT = 6, 4, 20
RECENT = 4  # weeks, those that a list is made of
MINUS = "\N{MINUS SIGN}"
UNSEEN = 'aria-hidden="true" focusable="false"'
WIDTH, TALL, LEFT, RIGHT, TOP, BOTTOM = 400, 190, 54, 10, 12, 26
Points = Sequence[tuple[str, float]]
"""Week and value."""


def sparkline(weeks: Weeks) -> Markup:
    """A bar a week, the highest as high as there is room; the four weeks that made the list stand out."""
    most = max((n for n in weeks if n), default=1)
    bars = [_bar(place, n, most) for place, n in enumerate(weeks)]
    paths = ((bars[:-RECENT], "old"), (bars[-RECENT:], "new"))
    inner = "".join(f'<path class="{name}" d="{"".join(some)}"/>' for some, name in paths if any(some))
    size = SLOT * len(weeks)
    box = f'viewBox="0 0 {size} {HEIGHT}" width="{size}" height="{HEIGHT}"'
    return Markup(f'<svg class="spark" {box} {UNSEEN}>{inner}</svg>')


def _bar(place: int, n: int | None, most: int) -> str:
    if n is None:
        return ""
    high = max(1.0, round(HEIGHT * n / most, 1))
    return f"M{place * SLOT + 1} {HEIGHT}v-{high:g}h{BAR}v{high:g}z"


def share(value: float, most: float) -> Markup:
    """A bar as wide as the value's share of the most."""
    percent = 100 * value / most if most else 0
    return Markup(
        f'<svg class="share" width="100%" height="6" {UNSEEN}><rect class="track" width="100%" height="6"/>'
        f'<rect class="fill" width="{percent:.1f}%" height="6"/></svg>'
    )


def span(ranks: Sequence[int | None], n_places: int) -> Markup:
    """Where each list has a track, from the first place at the left to the last; beyond it: not listed."""
    at = [2 + 96 * ((rank or n_places + 1) - 1) / max(1, n_places) for rank in ranks]
    dots = "".join(
        f'<circle class="s{n}{"" if rank else " off"}" cx="{x:.1f}%" cy="9" r="4.5"/>'
        for n, (x, rank) in enumerate(zip(at, ranks, strict=True))
    )
    return Markup(
        f'<svg class="ranks" width="100%" height="18" {UNSEEN}><line class="rail" x1="2%" x2="98%" y1="9" y2="9"/>'
        f'<line class="gap" x1="{min(at):.1f}%" x2="{max(at):.1f}%" y1="9" y2="9"/>{dots}</svg>'
    )


def interval(reach: float, low: float, mean: float, high: float) -> Markup:
    """A mean with its interval beside zero, which is in the middle; reach is what the picture's ends stand for."""
    x_low, x_mean, x_high = (50 + 48 * max(-1.0, min(1.0, value / (reach or 1))) for value in (low, mean, high))
    return Markup(
        f'<svg class="interval" width="100%" height="18" {UNSEEN}><line class="zero" x1="50%" x2="50%" y1="0" y2="18"/>'
        f'<line class="gap" x1="{x_low:.1f}%" x2="{x_high:.1f}%" y1="9" y2="9"/>'
        f'<circle cx="{x_mean:.1f}%" cy="9" r="4"/></svg>'
    )


def chart(series: Mapping[str, Points], weeks: Sequence[str], title: str) -> Markup:
    """A line a group over the weeks, around zero; what it shows is in the table beside it too."""
    reach = max((abs(value) for points in series.values() for _, value in points), default=0) or 0.01
    step = _step(reach)
    reach = max(reach, step)
    x_of = {week: LEFT + (WIDTH - LEFT - RIGHT) * (n + 0.5) / len(weeks) for n, week in enumerate(weeks)}

    def y_of(value: float) -> float:
        return TOP + (TALL - TOP - BOTTOM) * (1 - value / reach) / 2

    n_steps = int(reach / step + 1e-9)
    ticks = "".join(_tick(n * step, y_of(n * step)) for n in range(-n_steps, n_steps + 1))
    lines = "".join(
        _line(n, [(x_of[week], y_of(value)) for week, value in points]) for n, points in enumerate(series.values())
    )
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {TALL}" role="img" aria-label="{escape(title)}">'
    return Markup(f"{head}{ticks}{_dates(weeks, x_of)}{lines}</svg>")


def _step(reach: float) -> float:
    """One, two or five of a power of ten, so that there are few lines on each side of zero."""
    step = 1e-4
    for factor in (2, 2.5, 2) * 6:
        if reach / step < 2.5:
            break
        step *= factor
    return step


def _tick(value: float, y: float) -> str:
    is_zero = abs(value) < 1e-9
    label = "naive" if is_zero else f"{value:+.4f}".rstrip("0").rstrip(".").replace("-", MINUS)
    return (
        f'<line class="{"zero" if is_zero else "grid"}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _line(n: int, points: Sequence[tuple[float, float]]) -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dots = "".join(f"M{x - 3:.1f} {y:.1f}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0" for x, y in points)
    return f'<path class="line s{n}" d="M{path}"/><path class="dots s{n}" d="{dots}"/>'


def _dates(weeks: Sequence[str], x_of: Mapping[str, float]) -> str:
    """The first and the last, and one between them where there is room."""
    shown = [weeks[0], *weeks[len(weeks) // 2 : len(weeks) // 2 + (len(weeks) > 4)], weeks[-1]] if weeks else []
    return "".join(
        f'<text x="{x_of[week]:.1f}" y="{TALL - 6}" text-anchor="{_anchor(week, weeks)}">{escape(week)}</text>'
        for week in dict.fromkeys(shown)
    )


def _anchor(week: str, weeks: Sequence[str]) -> str:
    if len(weeks) < 3:
        return "middle"
    return {weeks[0]: "start", weeks[-1]: "end"}.get(week, "middle")
