"""Sessions that go on with a thread which was begun elsewhere, and survive it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.doubles.on_a_thread import Vendor
from tests.openai_sessions import (
    WAIT,
    ask,
    conversation,
    said,
    sound_client,
    start,
    store_of,
    vendor_at_hand,
    words_of,
)
from tests.waiting import until
from turnmill import CannotAdopt, Client, Conflict, InvalidInput, SessionRecord, TurnFailed
from turnmill_worker.layers import thread_lost

CANARY = "CANARY-77aa"
CALL = {"type": "function_call", "call_id": "call_9", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_9", "output": "42"}
BEFORE: list[dict[str, Any]] = [
    {"role": "user", "content": "My name is Ada."},
    {"role": "assistant", "content": "Hello Ada."},
]


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    monkeypatch.setattr(thread_lost, "_PAUSES", (timedelta(seconds=0.02),))
    with vendor_at_hand(monkeypatch) as vendor:
        yield vendor


@pytest.fixture
def client(vendor: Vendor) -> Iterator[Client]:
    with sound_client() as client:
        yield client


def adopt(client: Client, ref: str, **options: Any) -> SessionRecord:
    given: dict[str, Any] = {"provider": "openai", "model": "gpt-5-mini", "user_id": "ada"}
    return client.sessions.create(**given | {"adopt": ref} | options)


def a_chain(client: Client, *texts: str) -> str:
    """Have this said in a session, and return the response that it stands on."""
    session = start(client, thread="chain")
    for text in texts:
        ask(client, session, text)
    return client.sessions.get(session).provider_ref


def history(client: Client, session: SessionRecord) -> list[str]:
    return [one.text for one in client.sessions.history(session) if one.text]


def test_a_session_goes_on_with_a_conversation_that_exists(vendor: Vendor, client: Client) -> None:
    ref = vendor.double.conversations.begin(BEFORE)
    session = adopt(client, ref)
    assert session.settings == {"thread": "conversation"}
    assert ask(client, session.id, "Who am I?").text == "echo: Who am I? [2 before]"
    ask(client, session.id, "And now?")
    assert [body["conversation"] for body in vendor.asked()] == [ref, ref]
    assert [words_of(body) for body in vendor.asked()] == [["Who am I?"], ["And now?"]]
    assert history(client, session)[:3] == ["My name is Ada.", "Hello Ada.", "Who am I?"]
    assert len(history(client, session)) == 6
    assert client.sessions.get(session).adopted == ref


def test_a_session_goes_on_from_a_response_that_exists(vendor: Vendor, client: Client) -> None:
    ref = a_chain(client, "one", "two")
    session = adopt(client, ref)
    assert ask(client, session.id, "three").text == "echo: three [4 before]"
    assert vendor.asked()[-1]["previous_response_id"] == ref
    assert history(client, session)[::2] == ["one", "two", "three"]
    other = adopt(client, ref)  # it forks
    assert ask(client, other.id, "four").text == "echo: four [4 before]"


@pytest.mark.parametrize("thread", ["chain", "client", "conversation"])
@pytest.mark.parametrize("kind", ["conv", "resp"])
def test_what_was_said_in_it_is_known_here_when_the_vendor_has_lost_it(
    vendor: Vendor, client: Client, kind: str, thread: str
) -> None:
    made = vendor.double.conversations.begin
    ref = made(BEFORE) if kind == "conv" else a_chain(client, "My name is Ada.")
    session = adopt(client, ref, thread=thread)
    ask(client, session.id, "two")
    vendor.double.forget()
    ask(client, session.id, "three")
    assert words_of(vendor.asked()[-1])[::2] == ["My name is Ada.", "two", "three"]


def test_it_is_whole_when_it_is_lost_between_being_read_and_gone_on_with(
    vendor: Vendor, client: Client
) -> None:
    ref = vendor.double.conversations.begin(BEFORE)
    vendor.double.conversations.lock(ref)
    session = adopt(client, ref)
    reply = ask(client, session.id, "Who am I?")
    assert reply.own_history == "locked"
    assert words_of(vendor.asked()[-1]) == ["My name is Ada.", "Hello Ada.", "Who am I?"]
    vendor.double.conversations.unlock(ref)
    ask(client, session.id, "And now?")
    assert len(vendor.asked()[-1]["input"]) == 5
    assert ref in vendor.double.conversations  # it was there before us, and stays till the end


def test_calls_of_functions_and_their_outputs_are_taken_along(
    vendor: Vendor, client: Client
) -> None:
    ref = vendor.double.conversations.begin([BEFORE[0], CALL, OUTPUT, BEFORE[1]])
    session = adopt(client, ref)
    ask(client, session.id, "two")
    vendor.double.conversations.lose()
    ask(client, session.id, "three")
    kinds = [one.get("type", "message") for one in vendor.asked()[-1]["input"]]
    assert kinds[:4] == ["message", "function_call", "function_call_output", "message"]


def test_a_thread_that_is_stuck_at_a_call_without_an_output_goes_on_without_it(
    vendor: Vendor, client: Client
) -> None:
    ref = vendor.double.conversations.begin([BEFORE[0], CALL])
    session = adopt(client, ref)
    assert ask(client, session.id, "two").own_history == "lost"
    ask(client, session.id, "three")
    assert vendor.asked()[-1]["conversation"] != ref


def test_a_call_whose_fate_is_unknown_is_not_read_back_as_history(
    vendor: Vendor, client: Client
) -> None:
    ref = vendor.double.conversations.begin(BEFORE)
    session = adopt(client, ref)
    vendor.double.meet("ok", "drop")
    assert ask(client, session.id, "two").text == "echo: two [2 before]"
    assert history(client, session)[:3] == ["My name is Ada.", "Hello Ada.", "two"]
    asked = [words_of(body) for body in vendor.asked()]
    assert asked == [["two"], ["My name is Ada.", "Hello Ada.", "two"]]


@pytest.mark.parametrize("fault", ["bad_json", "no_such_model"])
def test_a_first_turn_that_fails_leaves_the_adopted_thread_to_the_next(
    vendor: Vendor, client: Client, fault: str
) -> None:
    session = adopt(client, vendor.double.conversations.begin(BEFORE))
    vendor.double.meet("ok", fault)
    with pytest.raises(TurnFailed):
        ask(client, session.id, CANARY)
    assert ask(client, session.id, "two").text == "echo: two [2 before]"
    spoken = [one for one in client.sessions.history(session) if one.state == "succeeded"]
    assert [one.text for one in spoken][:3] == ["My name is Ada.", "Hello Ada.", "two"]


def test_a_first_turn_that_has_failed_is_run_again_where_it_was(
    vendor: Vendor, client: Client
) -> None:
    session = adopt(client, vendor.double.conversations.begin(BEFORE))
    vendor.double.meet("ok", "no_such_model")
    turn = client.send(session, "two")
    with pytest.raises(TurnFailed):
        turn.result(timeout=WAIT)
    again = turn.retry()
    assert again.result(timeout=WAIT).text == "echo: two [2 before]"
    assert history(client, session)[:3] == ["My name is Ada.", "Hello Ada.", "two"]


@pytest.mark.parametrize("ref", ["conv_none", "resp_none"])
def test_a_thread_that_is_not_there_fails_the_turn_and_says_so(
    vendor: Vendor, client: Client, ref: str
) -> None:
    session = adopt(client, ref)
    with pytest.raises(TurnFailed) as caught:
        ask(client, session.id, "Hello")
    assert caught.value.error_code == "thread_not_found"
    assert vendor.asked() == []


def test_a_vendor_that_is_away_while_the_thread_is_read_is_asked_again(
    vendor: Vendor, client: Client
) -> None:
    session = adopt(client, vendor.double.conversations.begin(BEFORE))
    vendor.double.meet("server_error", "rate_limited_ms")
    reply = ask(client, session.id, "two")
    assert reply.text == "echo: two [2 before]"
    assert len(reply.attempts) == 3


def test_a_response_that_is_still_at_work_is_waited_for(vendor: Vendor, client: Client) -> None:
    vendor.double.meet("slow")
    working = client.send(start(client, thread="chain", settings={"background": True}), "one")
    until(lambda: working.refresh().state == "waiting")
    (ref,) = vendor.double.kept
    session = adopt(client, ref)
    turn = client.send(session, "two")
    until(lambda: turn.refresh().record.error_code == "thread_in_progress")
    vendor.double.finish()
    assert turn.result(timeout=WAIT).text == "echo: two [2 before]"


def test_chat_completions_are_told_what_was_said_in_it(vendor: Vendor, client: Client) -> None:
    ref = vendor.double.conversations.begin(BEFORE)
    session = adopt(client, ref, settings={"api": "chat"})
    assert ask(client, session.id, "two").own_history is None
    assert [one["content"] for one in vendor.double.last.body["messages"]] == [
        *("My name is Ada.", "Hello Ada.", "two"),
    ]


def test_a_long_thread_is_read_page_by_page_in_its_order(vendor: Vendor, client: Client) -> None:
    ref = vendor.double.conversations.begin()
    words = [f"word {n}" for n in range(250)]
    vendor.double.conversations.add(
        ref, [{"role": ("user", "assistant")[n % 2], "content": one} for n, one in enumerate(words)]
    )
    session = adopt(client, ref)
    ask(client, session.id, "and?")
    assert history(client, session)[:251] == [*words, "and?"]
    client.sessions.delete(session)
    until(lambda: not vendor.double.conversations)
    assert vendor.double.conversations.orphans == []


def test_an_adopted_conversation_is_deleted_with_its_session_and_a_response_stays(
    vendor: Vendor, client: Client
) -> None:
    ref = vendor.double.conversations.begin([{"role": "user", "content": CANARY}])
    session = adopt(client, ref)
    ask(client, session.id, "two")
    kept = a_chain(client, "one")
    from_response = adopt(client, kept)
    ask(client, from_response.id, "two")
    client.sessions.delete(session)
    client.sessions.delete(from_response)
    until(lambda: not vendor.double.conversations)
    until(lambda: list(vendor.double.kept) == [kept])
    assert vendor.double.conversations.orphans == []
    assert CANARY not in vendor.stored_text()


def test_what_was_read_is_deleted_with_its_session(vendor: Vendor, client: Client) -> None:
    session = adopt(client, vendor.double.conversations.begin(BEFORE))
    ask(client, session.id, "two")
    client.sessions.delete(session)
    with store_of(client).begin() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM messages").scalar() == 0


def test_a_conversation_is_one_sessions_alone_until_that_ends(
    vendor: Vendor, client: Client
) -> None:
    ref = vendor.double.conversations.begin(BEFORE)
    session = adopt(client, ref, key="mine")
    with pytest.raises(Conflict):
        adopt(client, ref)
    with pytest.raises(Conflict):
        adopt(client, ref, key="another")
    assert adopt(client, ref, key="mine").id == session.id
    client.sessions.delete(session)
    assert adopt(client, ref, key="another").adopted == ref


def test_an_id_of_anything_else_is_refused_at_the_door(client: Client) -> None:
    refs: list[Any] = [
        *("", "thread_abc", "asst_1", "pmpt_1", "msg_1", "conv", "conv_", "resp-1", "CONV_1"),
        *("conv_1 ", "conv_1/items", "conv_ä", "resp_" + "x" * 201, "\nresp_1", 7, ["conv_1"]),
    ]
    for ref in refs:
        with pytest.raises(CannotAdopt) as caught:
            adopt(client, ref)
        assert (caught.value.code, bool(caught.value.hint)) == ("cannot_adopt", True)
    assert client.sessions.list() == []


def test_a_provider_that_keeps_no_such_threads_is_refused_at_the_door(client: Client) -> None:
    for provider in ("anthropic", "mock", "echo"):
        with pytest.raises(CannotAdopt, match=provider):
            adopt(client, "conv_1", provider=provider)
        with pytest.raises(InvalidInput):
            adopt(client, "resp_1", provider=provider)


def test_an_adopted_conversation_that_was_begun_empty_is_simply_gone_on_with(
    vendor: Vendor, client: Client
) -> None:
    session = adopt(client, vendor.double.conversations.begin())
    vendor.double.meet("ok", "drop")
    ask(client, session.id, "one")
    ask(client, session.id, "two")
    assert said(vendor, client.sessions.get(session).provider_ref)[::2] == ["one", "two"]
    turns = client.turns.list(session=session)
    assert all(len(turn.messages()) == 2 for turn in turns)


def test_only_the_turns_own_messages_are_shown_with_it(vendor: Vendor, client: Client) -> None:
    session = adopt(client, vendor.double.conversations.begin(BEFORE))
    turn = client.send(session, "two")
    turn.result(timeout=WAIT)
    assert [one.text for one in turn.messages()] == ["two", "echo: two [2 before]"]
    assert conversation(vendor)
