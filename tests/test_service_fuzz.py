"""Every operation of the documentation, asked for with what nobody would think of: it answers, as it is documented."""

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from features.weeks import Calendar, ChartWeek
from service.app import build
from tests.serving import a_list, parts

N_EXAMPLES = int(os.environ.get("HITPARADE_TEST_FUZZ", "15"))
"""Of each operation; `make fuzz` asks for more."""
TOKEN = "a-token-of-ours"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The service with some lists, and no model, Redis or Kafka."""
    lists = [
        a_list(f"2025-W{week}", group, ("a", "b", f"c{week}", "<b>&\u202e"))
        for week in (10, 11, 12)
        for group in ("control", "treatment")
    ]

    def fire(week: str | None) -> ChartWeek:
        return Calendar().parse(week or "2025-W11")

    made = parts(tmp_path_factory.mktemp("fuzz"), *lists, token=TOKEN, fire=fire)
    return schemathesis.openapi.from_asgi("/openapi.json", build(made))


KEPT = [status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # Kafka's clients do, in threads of their own
def test_whatever_is_asked_for_is_answered_as_it_is_documented(api: Any) -> None:
    operations = [found.ok() for found in api.exclude(path="/events").get_all_operations()]  # that one has no end
    assert len(operations) > 10
    for operation in operations:
        ask(operation)


def ask(operation: Any) -> None:
    """Ask one operation for all that its strategy comes upon."""

    @settings(
        max_examples=N_EXAMPLES,
        deadline=None,
        derandomize="HITPARADE_TEST_FUZZ" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy())
    def answered(case: Any) -> None:
        response = case.call(headers={"Authorization": f"Bearer {TOKEN}"})
        declared = operation.definition.raw["responses"]
        assert response.status_code < 500 or (response.status_code == 503 and "503" in declared), response.text
        case.validate_response(response, checks=KEPT)

    answered()
