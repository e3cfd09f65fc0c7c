"""How many tokens a picture is, by the vendors' published rules."""

from typing import Any

import pytest

from tests.attachments import Held, a_png
from tests.contract.rigs import a_request
from turnmill.domain.content import Image, Message, Text
from turnmill_worker.providers.anthropic.messages import most_of
from turnmill_worker.providers.counting import input_bound
from turnmill_worker.providers.pictures import counted_by_anthropic, tokens_of_openai


@pytest.mark.parametrize(
    ("model", "width", "height", "detail", "tokens"),
    [
        # The examples of the vendor's guide.
        ("gpt-4o", 1024, 1024, "high", 765),
        ("gpt-4o", 2048, 4096, "high", 1105),
        ("gpt-4o", 4096, 8192, "low", 85),
        ("gpt-4.1-mini", 1024, 1024, "", 1659),
        ("gpt-4.1-mini", 1800, 2400, "", 2489),
        ("gpt-4o-mini", 512, 512, "", 8500),
        ("gpt-5", 1024, 1024, "auto", 630),
        ("gpt-5-mini-2025-08-07", 32, 32, "", 2),
        ("o3", 1024, 1024, "", 675),
        ("o4-mini", 33, 32, "", 4),
        ("gpt-5.4", 10_000, 10_000, "", 12_000),
        ("gpt-5.4", 10_000, 10_000, "high", 3000),
        ("gpt-5.4-nano", 10_000, 10_000, "", 3779),
        ("ft:gpt-4o:acme", 512, 512, "", 255),
    ],
)
def test_a_picture_takes_what_openai_says(
    model: str, width: int, height: int, detail: str, tokens: int
) -> None:
    assert tokens_of_openai(model, width, height, detail) == tokens


def test_of_a_model_that_nobody_knows_it_takes_as_much_as_of_any() -> None:
    assert tokens_of_openai("brand-new", 4000, 4000) >= tokens_of_openai("gpt-5.4", 4000, 4000)


def of_anthropic(width: int, height: int) -> int | None:
    return counted_by_anthropic(a_request())(Image(id="cat", width=width, height=height))


@pytest.mark.parametrize(
    ("width", "height", "least", "most"),
    [
        (200, 200, 54, 70),
        (1000, 1000, 1334, 1334),
        (1092, 1092, 1590, 1590),
        (8000, 8000, 4784, 5000),
        (1, 1, 1, 1),
    ],
)
def test_a_picture_takes_what_anthropic_says(
    width: int, height: int, least: int, most: int
) -> None:
    found = of_anthropic(width, height)
    assert found is not None
    assert least <= found <= most


def request(*parts: Any, model: str, **given: Any) -> Any:
    return a_request(messages=[Message("user", (Text("Hi"), *parts))], model=model, **given)


def test_what_is_reserved_for_a_call_holds_its_pictures() -> None:
    held = Held()
    with_it = most_of(request(held.image(a_png(1000, 1000)), model="claude-x", files=held), ())
    without = most_of(request(model="claude-x"), ())
    assert with_it.input_tokens is not None and without.input_tokens is not None
    assert 1334 < with_it.input_tokens - without.input_tokens < 1400


def test_a_document_may_fill_the_model_and_one_of_a_model_unknown_nobody_can_tell() -> None:
    held = Held()
    paper = held.file(b"%PDF-1.4")
    known = most_of(request(paper, model="claude-sonnet-4-5", files=held), ())
    assert known.input_tokens is not None and known.input_tokens >= 200_000
    unknown = most_of(request(paper, model="no-such-model", files=held), ())
    assert unknown.input_tokens is None


def test_who_says_nothing_of_attachments_cannot_count_them() -> None:
    assert input_bound(request(Image(id="x"), model="m")) is None
