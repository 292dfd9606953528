from typing import Any

import pytest

from models.verdicts import Finding, conclude

EFFECT = "plays are 3.0 % higher [+1.0 %, +5.0 %], p = 0.004"
OPEN = "plays are 0.4 % higher [-1.6 %, +2.4 %], p = 0.7"
KNOWN: dict[str, Any] = {"control": "old", "group": "new", "metric": "plays"}
GOOD: dict[str, Any] = {"is_significant": True, "is_good": True, "effect": EFFECT}
NOT_YET: dict[str, Any] = {"effect": OPEN, "detectable": 0.028, "look": 2, "planned": 4, "more_weeks": 3}
TABLE: list[tuple[dict[str, Any], str, str]] = [
    (
        GOOD | {"broken": "of users, old has 10, expected 20 (p < 0.001). Look.", "planned": 4},
        "broken",
        "The experiment is broken, so nothing follows from it: of users, old has 10, expected 20 (p < 0.001). Look.",
    ),
    (
        {"unknown": "new has no user", "look": 4, "planned": 4},
        "too early",
        "It is too early to compare new with old: plays cannot be told, since new has no user.",
    ),
    (
        GOOD | {"fewest_users": 29},
        "too early",
        "It is too early to compare new with old: a group has 29 users, and below 30 an interval means nothing.",
    ),
    (
        NOT_YET,
        "too early",
        "It is too early to say which list is better, new's or old's: "
        f"{OPEN}, which may be chance. To see a difference of 2.0 % it needs 3 more weeks; 2 weeks of the plan remain.",
    ),
    (
        NOT_YET | {"more_weeks": 1, "is_least": True, "look": 3},
        "too early",
        "It is too early to say which list is better, new's or old's: "
        f"{OPEN}, which may be chance. To see a difference of 2.0 % it needs at least one more week; "
        "one week of the plan remains.",
    ),
    (
        NOT_YET | {"more_weeks": None},
        "too early",
        "It is too early to say which list is better, new's or old's: "
        f"{OPEN}, which may be chance. To see a difference of 2.0 % it needs more users: with these, no number of "
        "weeks would do; 2 weeks of the plan remain.",
    ),
    (
        NOT_YET | {"more_weeks": 0},
        "too early",
        "It is too early to say which list is better, new's or old's: "
        f"{OPEN}, which may be chance. To see a difference of 2.0 % it has enough weeks; 2 weeks of the plan remain.",
    ),
    (
        NOT_YET | {"planned": None},
        "too early",
        "It is too early to say which list is better, new's or old's: "
        f"{OPEN}, which may be chance. To see a difference of 2.0 % it needs 3 more weeks.",
    ),
    (GOOD, "better", f"new's list is better than old's: {EFFECT}."),
    (GOOD | {"look": 1, "planned": 4}, "better", f"new's list is better than old's: {EFFECT}."),
    (GOOD | {"is_good": False}, "worse", f"old's list is better than new's: {EFFECT}."),
    (
        GOOD | {"harmed": "skips per play is 9.0 % higher"},
        "mixed",
        f"new's list is not simply better than old's: {EFFECT}, but skips per play is 9.0 % higher. "
        "Weigh the one against the other before you choose.",
    ),
    (
        GOOD | {"is_good": False, "harmed": "skips per play is 9.0 % higher"},
        "worse",
        f"old's list is better than new's: {EFFECT}.",
    ),
    (
        NOT_YET | {"look": 4},
        "no difference",
        f"No difference between the lists of new and old was found: {OPEN}. "
        "It would have seen one of 2.8 % or more in four of five cases; a smaller one may be there.",
    ),
    (
        NOT_YET | {"planned": None, "detectable": 0.02},
        "no difference",
        f"No difference between the lists of new and old was found: {OPEN}. "
        "It would have seen one of 2.0 % or more in four of five cases; a smaller one may be there.",
    ),
    (
        {"effect": OPEN, "look": 4, "planned": 4},
        "no difference",
        f"No difference between the lists of new and old was found: {OPEN}. What it could have seen cannot be told.",
    ),
]


@pytest.mark.parametrize(("found", "verdict", "sentence"), TABLE)
def test_the_sentence_is_chosen_by_a_table(found: dict[str, Any], verdict: str, sentence: str) -> None:
    assert conclude(Finding(**(KNOWN | found))) == (verdict, sentence)
