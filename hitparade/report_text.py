"""An experiment's report as people read it on a terminal, and as JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from hitparade import output
from models.plans import CORRECTIONS, Plan
from models.reports import Effect, Report, p_in_words


def rows(found: Report) -> Iterator[dict[str, Any]]:
    """One object a metric and group, and the conclusion as the last."""
    for effect in found.effects:
        yield {"experiment": found.name, **effect.model_dump(mode="json")}
    conclusion = found.model_dump(mode="json", exclude={"effects", "name"})
    yield {"experiment": found.name, **conclusion, "winner": found.winner, "sentence": found.sentence}


COLUMNS = ("group", "~metric", "#control", "#group's", "#difference", "interval", "#p", "#corrected", "#detectable")


def print_report(found: Report, plan: Plan) -> None:
    """The table, what it rests on, what to beware of, and the conclusion as the last line."""
    span = found.weeks[0] if len(found.weeks) == 1 else f"{found.weeks[0]} to {found.weeks[-1]}"
    users = ", ".join(f"{group} {n:,}" for group, n in found.users.items())
    output.print_table(f"{found.name}, {span}: {users}", COLUMNS, [_row(effect) for effect in found.effects])
    for line in notes(found, plan):
        print(line)
    print(*(f"Warning: {warning}" for warning in found.warnings), sep="\n", end="\n" if found.warnings else "")
    print(found.sentence)


def _row(effect: Effect) -> Sequence[object]:
    label = effect.label if effect.role == "other" else f"{effect.label} ({effect.role})"
    if effect.effect is None:
        return (effect.group, label, "", "", "", f"{effect.unknown}", "", "", "")
    mark = " *" if effect.is_significant else ""
    return (
        *(effect.group, label, f"{effect.control_value:.4g}", f"{effect.group_value:.4g}"),
        *(_share(effect.relative, effect.effect) + mark, _interval(effect)),
        *(p_in_words(p).removeprefix("= ") for p in (effect.p_value, effect.p_corrected)),
        f"{100 * effect.detectable:.1f} %" if effect.detectable is not None else "",
    )


def _share(share: float | None, otherwise: float | None) -> str:
    return f"{100 * share:+.1f} %" if share is not None else f"{otherwise:+.3g}"


def _interval(effect: Effect) -> str:
    return f"[{_share(effect.relative_low, effect.low)}, {_share(effect.relative_high, effect.high)}]"


def notes(found: Report, plan: Plan) -> Iterator[str]:
    """What the figures rest on, a line each."""
    yield f"Of {found.population}. * is significant; detectable is seen in {100 * plan.power:g} % of such cases."
    sharpened = sum(effect.cuped for effect in found.effects)
    before = f"the {found.weeks_before} weeks before" if found.weeks_before > 1 else "the week before"
    yield (
        f"Sharpened by {before} (CUPED): {sharpened} of {len(found.effects)}." if sharpened else "Without weeks before."
    )
    yield f"{plan.primary} decides; the other metrics are corrected for their number ({CORRECTIONS[found.correction]})."
    if found.looks and found.looks > 1:
        yield (
            f"Look {found.look} of {found.looks}: p below {found.level:.2g} is significant now, so that all looks "
            f"together err in {100 * found.alpha:g} % at most (O'Brien-Fleming-like spending)."
        )
    for ratio in found.ratios:
        p = "unknown" if ratio.p_value is None else p_in_words(ratio.p_value)
        yield f"Ratio of {ratio.what}: {', '.join(f'{group} {n:,}' for group, n in ratio.users.items())}, p {p}."
    yield _touched(found)


def _touched(found: Report) -> str:
    if found.touched.events is None:
        return "No user was capped or left out."
    n = ", ".join(f"{group} {n:,}" for group, n in found.touched.users.items())
    return f"Users with more than {found.touched.events:,.0f} events, {found.touched.how}: {n}."
