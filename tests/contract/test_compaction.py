"""A conversation that is longer than its model goes on without its oldest turns, where it may."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.anthropic_server import AnthropicDouble
from tests.doubles.openai_server import OpenAIDouble
from tests.doubles.vendor_double import VendorDouble
from tests.doubles.whole_turn import Books, run_to_end
from tests.ledgers import stored
from turnmill.domain.content import Message, Text, ToolCall, ToolOutput
from turnmill.domain.states import CompactionKind, OnAmbiguous, TurnState
from turnmill.store.compaction_records import SaidTurn
from turnmill.store.records import Settlement
from turnmill_worker.layers.shortening import cut, said_in, size_of
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Provider

pytestmark = pytest.mark.anyio

WINDOW = 3_000
PAST = [
    message
    for n in range(40)
    for message in (
        Message.of("user", f"question {n} {'x' * 50}"),
        Message.of("assistant", f"answer {n} {'y' * 50}"),
    )
]
SETTINGS: dict[str, dict[str, Any]] = {
    "anthropic": {},
    "responses": {"thread": "client"},
    "chat": {"api": "chat"},
    "chain": {},
}


def is_for_a_summary(body: dict[str, Any]) -> bool:
    return "Write a summary of it" in str(body)


class Asked:
    """A vendor whose model has a small window, and what a session says to it."""

    def __init__(self, provider: Provider, double: VendorDouble, of_claim: dict[str, Any]) -> None:
        self.provider = provider
        self.double = double
        self.of_claim = of_claim
        self.books = Books(past=PAST)
        self.model = "claude-haiku-4-5" if provider.name == "anthropic" else "gpt-5-mini"
        double.window = WINDOW
        double.says = lambda body: "In short." if is_for_a_summary(body) else ""

    async def turn(self, kind: str | None, **more: Any) -> Settlement:
        settings = self.of_claim["settings"] | ({} if kind is None else {"on_context_full": kind})
        of_claim = self.of_claim | {"settings": settings, "model": self.model} | more
        return await run_to_end(self.provider, self.books, **of_claim)

    def said(self) -> list[str]:
        """What was said in the last request, in order, neighbours in one message too."""
        body = self.double.last.body
        said = [one["content"] for one in body.get("messages") or body["input"]]
        pieces = [[one] if isinstance(one, str) else [part["text"] for part in one] for one in said]
        return [text for texts in pieces for text in texts]

    def paid(self) -> list[bool]:
        """Return of each call that was executed whether it was for a summary."""
        return [is_for_a_summary(call.body) for call in self.double.calls if call.executed]


@pytest.fixture(params=list(SETTINGS))
async def asked(
    request: pytest.FixtureRequest,
    openai: OpenAIProvider,
    openai_double: OpenAIDouble,
    anthropic: AnthropicProvider,
    anthropic_double: AnthropicDouble,
) -> Asked:
    of_claim = {"settings": SETTINGS[request.param], "history": stored(PAST)}
    if request.param == "anthropic":
        return Asked(anthropic, anthropic_double, of_claim)
    if request.param == "chain":
        of_claim |= {"history": stored([]), "provider_ref": "resp_gone"}  # rebuilt from PAST
    return Asked(openai, openai_double, of_claim)


def are_the_last_turns(said: Sequence[str]) -> bool:
    *history, now = said
    turns = [one.text for one in PAST]
    return (
        now == "hello" and len(history) % 2 == 0 and history == turns[len(turns) - len(history) :]
    )


@pytest.mark.parametrize("kind", [None, "error"])
async def test_a_conversation_that_is_too_long_fails_its_turn_unless_the_session_says_otherwise(
    asked: Asked, kind: str | None
) -> None:
    last = await asked.turn(kind)
    assert (last.state, last.error_code) == (TurnState.FAILED, "context_full")
    assert not asked.paid() and not asked.books.compactions


async def test_the_oldest_turns_are_left_out_until_the_rest_is_short_enough(asked: Asked) -> None:
    last = await asked.turn("truncate")
    assert last.state is TurnState.SUCCEEDED
    assert are_the_last_turns(asked.said()) and len(asked.said()) > 1
    assert asked.paid() == [False]
    (kept,) = asked.books.compactions
    assert (kept.kind, kept.summary) == (CompactionKind.TRUNCATE, None)
    assert kept.turns == kept.up_to_seq == 40 - len(asked.said()) // 2
    assert len(asked.double.calls) <= 4


async def test_what_is_left_out_is_summed_up_once_and_later_turns_begin_with_that(
    asked: Asked,
) -> None:
    last = await asked.turn("summarise")
    assert last.state is TurnState.SUCCEEDED
    first, *rest = asked.said()
    assert first.startswith("[Summary") and first.endswith("\n\nIn short.")
    assert are_the_last_turns(rest)
    assert set(asked.paid()[:-1]) == {True} and asked.paid()[-1] is False
    kept = asked.books.compactions[-1]
    assert (kept.kind, kept.summary) == (CompactionKind.SUMMARISE, "In short.")
    assert kept.input_tokens and kept.output_tokens and kept.cost_usd
    calls = len(asked.double.calls)
    again = await asked.turn("summarise", **({"history": None} | thread_of(asked)))
    assert again.state is TurnState.SUCCEEDED
    assert asked.said() == [first, *rest]
    assert len(asked.double.calls) == calls + 1 + len(thread_of(asked))


def thread_of(asked: Asked) -> dict[str, str]:
    """Return a thread that the vendor has lost: it is rebuilt from what is not left out."""
    return {"provider_ref": "resp_gone"} if "provider_ref" in asked.of_claim else {}


@pytest.mark.parametrize("kind", ["truncate", "summarise"])
async def test_a_message_that_is_too_long_by_itself_fails_and_nothing_is_left_out_for_it(
    asked: Asked, kind: str
) -> None:
    last = await asked.turn(kind, messages=[Message.of("user", "z" * 10_000)])
    assert (last.state, last.error_code) == (TurnState.FAILED, "context_full")
    assert not asked.paid() and not asked.books.compactions
    assert len(asked.double.calls) <= 8


@pytest.mark.parametrize("fault", ["refusal", "no_such_model"])
async def test_where_the_model_gives_no_summary_the_oldest_turns_are_left_out_all_the_same(
    asked: Asked, fault: str
) -> None:
    asked.double.window = 5_000  # the first cut is short enough
    lost = ["ok"] * ("provider_ref" in asked.of_claim)
    asked.double.meet(*lost, "ok", fault)
    last = await asked.turn("summarise")
    assert last.state is TurnState.SUCCEEDED
    assert are_the_last_turns(asked.said())
    assert asked.books.compactions[-1].kind is CompactionKind.TRUNCATE


@pytest.mark.parametrize("fault", ["rate_limited", "drop", "cut"])
async def test_a_summary_that_cannot_be_had_now_is_asked_for_again_with_its_turn(
    asked: Asked, fault: str
) -> None:
    asked.double.window = 5_000
    lost = ["ok"] * ("provider_ref" in asked.of_claim)
    asked.double.meet(*lost, "ok", fault)
    last = await asked.turn("summarise", on_ambiguous=OnAmbiguous.HOLD)
    assert last.state is TurnState.SUCCEEDED
    assert asked.books.settled[0].state is TurnState.RETRYING  # and not unknown: it was not sent
    assert asked.paid()[-2:] == [True, False]


@pytest.mark.parametrize("asked", ["responses"], indirect=True)
async def test_a_summary_that_failed_is_booked_as_it_was_counted(asked: Asked) -> None:
    asked.double.window = 5_000
    asked.double.meet("ok", "spent:invalid_prompt")
    last = await asked.turn("summarise")
    assert last.state is TurnState.SUCCEEDED
    kept = asked.books.compactions[-1]
    assert (kept.kind, kept.input_tokens) == (CompactionKind.TRUNCATE, 1423)
    assert kept.cost_usd
    asked.books.settled.clear()
    asked.books.compactions.clear()
    asked.double.meet("ok", "spent:server_error")
    last = await asked.turn("summarise")
    assert last.state is TurnState.SUCCEEDED
    first = asked.books.settled[0]
    assert (first.state, first.input_tokens) == (TurnState.RETRYING, 1423)


async def test_work_in_the_background_that_was_too_long_is_begun_again_with_less(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    openai_double.meet("failed:context_length_exceeded")
    books = Books(past=PAST)
    settings = {"background": True, "on_context_full": "truncate"}
    last = await run_to_end(openai, books, settings=settings, history=stored(PAST))
    assert last.state is TurnState.SUCCEEDED
    assert [one.outcome for one in books.settled] == ["waiting", "refused", "waiting", "succeeded"]
    (kept,) = books.compactions
    assert len(openai_double.calls[2].body["input"]) == 2 * (40 - kept.turns) + 1


async def test_work_in_the_background_that_is_too_long_for_the_last_time_fails(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    openai_double.meet("failed:context_length_exceeded")
    settings = {"background": True, "on_context_full": "truncate"}
    last = await run_to_end(openai, Books(past=PAST), settings=settings, max_attempts=1)
    assert (last.state, last.error_code) == (TurnState.FAILED, "context_full")


async def test_a_word_that_is_none_is_told_before_anything_is_sent(asked: Asked) -> None:
    last = await asked.turn("shorten")
    assert (last.error_code, len(asked.double.calls)) == ("setting_refused", 0)


PARTS = st.one_of(
    st.builds(Text, st.text(max_size=30)),
    st.builds(ToolCall, id=st.just("c"), name=st.just("f"), arguments=st.text(max_size=9)),
    st.builds(ToolOutput, call_id=st.just("c"), output=st.text(max_size=99)),
)
TURNS = st.lists(
    st.lists(st.builds(Message, st.just("user"), st.tuples(PARTS, PARTS)), min_size=1, max_size=9),
    min_size=1,
    max_size=12,
).map(lambda said: [SaidTurn(seq=n, messages=one) for n, one in enumerate(said, 1)])


@given(turns=TURNS, most=st.integers(0, 2_000))
def test_a_cut_leaves_whole_turns_and_as_many_as_are_short_enough(
    turns: list[SaidTurn], most: int
) -> None:
    left = cut(turns, most=most)
    assert 1 <= left <= len(turns)
    kept = said_in(turns[left:])
    assert size_of(kept) <= most
    assert kept == said_in(turns)[len(said_in(turns)) - len(kept) :]
    assert left == 1 or size_of(said_in(turns[left - 1 :])) > most
