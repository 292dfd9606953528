"""An experiment's report as `experiments report` might have made it, without the statistics."""

from typing import Any

from models.reports import Conclusion, Effect, Report, Touched


def a_report(**changes: Any) -> Report:
    """What `experiments report` might have found: the metric that decides is higher, the others tell nothing."""
    sentence = (
        "treatment's list is better than control's: plays per active user is 3.1 % higher [+1.0 %, +5.2 %], p = 0.0041."
    )
    found = Report(
        name="neural-against-linear",
        control="control",
        weeks=["2025-W11", "2025-W12", "2025-W13"],
        weeks_before=0,
        look=3,
        looks=None,
        alpha=0.05,
        level=0.05,
        correction="holm",
        population="all assigned users",
        users={"control": 10_311, "treatment": 10_274},
        ratios=[],
        touched=Touched(how="nothing", events=None, users={}),
        effects=[
            _effect("plays per active user", "primary", 41.62, 0.031, 0.010, 0.052, 0.0041, is_significant=True),
            _effect("active days per user", "other", 4.871, 0.006, -0.004, 0.016, 0.73),
            _effect("skips per play", "guardrail", 0.2979, -0.004, -0.019, 0.011, 1.0),
            _effect("likes per play", "other", 0.1828, 0.012, -0.009, 0.033, 0.81),
            Effect(
                metric="listed_share",
                label="share of plays from the list",
                role="other",
                more_is_better=True,
                group="treatment",
                unknown="nobody in control played a listed track",
            ),
        ],
        warnings=["The experiment has no last week, so no number of looks is planned."],
        conclusions=[
            Conclusion(group="treatment", verdict="better", sentence=sentence, more_weeks=0, is_least=False),
        ],
    )
    return found.model_copy(update=changes)


def _effect(label: str, role: str, control: float, share: float, low: float, high: float, p: float, **of: Any) -> Any:
    return Effect.model_validate(
        {"metric": label.replace(" ", "_"), "label": label, "role": role, "group": "treatment", "more_is_better": True}
        | {"control_value": control, "group_value": control * (1 + share), "effect": control * share}
        | {"low": control * low, "high": control * high, "relative": share, "relative_low": low, "relative_high": high}
        | {"p_value": p, "p_corrected": p, **of}
    )
