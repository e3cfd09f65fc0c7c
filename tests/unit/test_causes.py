"""What a vendor says of a conversation's length and structure is understood, in its own words."""

import json
from pathlib import Path
from typing import Any

import pytest

from turnmill.domain.errors import ContextFull, HistoryRefused, ProviderError
from turnmill_worker.providers.answers import refusal
from turnmill_worker.providers.failures import error_of_inside
from turnmill_worker.providers.http import RawAnswer

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "cases" / "refusals.json").read_text()
)
CODES = {"openai": ("code", "type"), "anthropic": ("details.error_code", "type")}
KINDS = {"context_full": ContextFull, "history_refused": HistoryRefused}


def said(case: dict[str, Any]) -> ProviderError:
    body = case["body"]
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    answer = RawAnswer(status=case["status"], headers={}, body=raw)
    return refusal(answer, request_id="", codes=CODES[case["vendor"]])


def name_of(case: dict[str, Any]) -> str:
    return f"{case['vendor']}-{case['about']}-{json.dumps(case['body'])[:60]}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_refusal_tells_by_its_code_or_its_first_words_what_it_is_about(
    case: dict[str, Any],
) -> None:
    error = said(case)
    if not case["about"]:
        assert not isinstance(error, ContextFull | HistoryRefused)
        return
    assert type(error) is KINDS[case["about"]]
    assert error.error_code == case["about"]  # a code that stays, whatever the vendor's own is
    assert error.detail  # the vendor's words are kept


@pytest.mark.parametrize(
    "case",
    [one for one in CASES if one["about"] and isinstance(one["body"], dict)],
    ids=name_of,
)
def test_an_error_inside_a_reply_is_about_the_same(case: dict[str, Any]) -> None:
    error = case["body"].get("error") or case["body"]
    assert type(error_of_inside(error)) is KINDS[case["about"]]
