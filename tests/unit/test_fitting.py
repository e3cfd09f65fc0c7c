"""What a provider is sent: what it takes, whole; never a conversation with something missing."""

from typing import Any
from uuid import uuid4

import pytest

from tests import contents
from tests.contract.rigs import a_request
from tests.ledgers import FakeLedger, deps_of, stored
from turnmill.domain.content import TEXT_ONLY, Kind, Message, Native, Part, Text, ToolCall
from turnmill.domain.errors import Rejected
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill_worker.providers.fitting import fitted, item_of, words
from turnmill_worker.providers.port import Done, Request
from turnmill_worker.turn.run import run_turn

pytestmark = pytest.mark.anyio

OWN = Native(provider="theirs", item='{"signature": "s"}')
FOREIGN = Native(provider="another", item='{"signature": "s"}')
SEVERAL = (Text("one "), Text("two"))


def sent(
    *parts: Part, takes: frozenset[Kind] = TEXT_ONLY, history: list[Message] | None = None
) -> Request:
    request = a_request(messages=[Message("user", parts)], history=stored(history or []))
    return fitted(request, name="theirs", takes=takes)


def test_text_is_sent_as_it_stands() -> None:
    past = [Message.of("user", "Hello"), Message("assistant", SEVERAL)]
    request = sent(*SEVERAL, history=past)
    assert request.messages == [Message("user", SEVERAL)]
    assert request.history == past
    assert request.text == "one two"


@pytest.mark.parametrize(
    "part", [one for one in contents.EACH if not isinstance(one, Text | Native)]
)
def test_a_part_that_a_provider_does_not_take_is_an_error_and_is_not_left_out(part: Part) -> None:
    with pytest.raises(Rejected) as caught:
        sent(Text("Look:"), part)
    assert (caught.value.error_code, part.kind in caught.value.detail) == ("unsupported_part", True)
    request = sent(Text("Look:"), history=[Message("user", (Text("See:"), part))])
    with pytest.raises(Rejected):
        list(request.history)
    assert list(sent(part, takes=TEXT_ONLY | {type(part)}).messages) == [Message("user", (part,))]


def test_a_native_item_goes_to_its_own_provider_and_to_nobody_else() -> None:
    both = [Message("assistant", (OWN, Text("Hello."), FOREIGN))]
    takes = frozenset({Text, Native})
    assert sent(Text("?"), takes=takes, history=both).history == [
        Message("assistant", [OWN, Text("Hello.")])
    ]
    only_foreign = [Message("assistant", (FOREIGN,)), Message.of("user", "And?")]
    assert sent(Text("?"), history=only_foreign).history == only_foreign[1:]
    with pytest.raises(Rejected):  # its own, which it does not say that it takes
        list(sent(Text("?"), history=both).history)


def test_words_are_all_text_or_an_error() -> None:
    assert (words(SEVERAL), words([Text("x")]), words([])) == ("one two", "x", "")
    for part in contents.EACH[1:]:
        with pytest.raises(Rejected):
            words([Text("x"), part])


def test_a_native_item_that_is_no_json_fails_its_turn_and_says_why() -> None:
    assert item_of(OWN) == {"signature": "s"}
    for item in ("{", "", "[" * 100_000):
        with pytest.raises(Rejected) as caught:
            item_of(Native(provider="theirs", item=item))
        assert caught.value.error_code == "unreadable_row"


class Told:
    """A provider that takes what it says, notes what it is sent, and says what it was told to."""

    name = "theirs"

    def __init__(self, answer: Done, *takes: Kind) -> None:
        self.accepts = frozenset({Text, *takes})
        self.seen: list[Request] = []
        self._answer = answer

    async def send(self, request: Request, emit: Any = None) -> Done:
        list(request.history)
        self.seen.append(request)
        return self._answer


async def run(provider: Any, *said: Part) -> FakeLedger:
    ledger = FakeLedger(options={"messages": [Message("user", said)]})
    deps = deps_of(ledger, None, provider=lambda _: provider)
    await run_turn(TurnId(uuid4()), deps)
    return ledger


async def test_a_turn_that_a_provider_cannot_be_sent_fails_and_nothing_is_sent() -> None:
    provider = Told(Done(text="Hello."))
    ledger = await run(provider, *contents.EACH[:2])
    (verdict,) = ledger.settled
    assert (verdict.state, verdict.error_code) == (TurnState.FAILED, "unsupported_part")
    assert provider.seen == []


async def test_all_that_a_provider_says_is_kept_in_order() -> None:
    call = ToolCall(id="1", name="now", arguments="{}")
    said = (OWN, Text("Let me see."), call)
    ledger = await run(Told(Done(parts=said), Native, ToolCall), Text("Hello"))
    (verdict,) = ledger.settled
    assert verdict.state is TurnState.SUCCEEDED
    assert verdict.replies == (Message("assistant", said),)


async def test_a_reply_that_could_never_be_sent_again_is_no_reply() -> None:
    call = ToolCall(id="1", name="now", arguments="{}")
    ledger = await run(Told(Done(parts=[Text("Let me see."), call])), Text("Hello"))
    (verdict,) = ledger.settled
    assert (verdict.state, verdict.error_code) == (TurnState.FAILED, "bad_answer")
    assert "tool_call" in (verdict.error_detail or "")
    assert "Let me see" not in (verdict.error_detail or "")


async def test_what_no_database_stores_is_replaced_in_every_string_of_a_part() -> None:
    call = ToolCall(id="1\0", name="now\ud83d", arguments='{"a": "\0"}')
    ledger = await run(Told(Done(parts=[Text("a\0b"), call]), ToolCall), Text("Hello"))
    (reply,) = ledger.settled[0].replies
    assert reply.parts == (
        Text("a\ufffdb"),
        ToolCall(id="1\ufffd", name="now\ufffd", arguments='{"a": "\ufffd"}'),
    )


def test_a_text_without_a_history_is_sent_as_it_is_without_a_copy() -> None:
    request = a_request(history=stored([]))
    assert fitted(request, name="theirs", takes=TEXT_ONLY) is request
