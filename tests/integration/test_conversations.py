"""A session whose thread is a conversation at OpenAI: from `send` to the vendor's stand-in."""

from collections.abc import Iterator
from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console

from tests import steps
from tests.doubles.on_a_thread import Vendor
from tests.openai_sessions import (
    WAIT,
    ask,
    backlog,
    closing_due_now,
    conversation,
    owed,
    said,
    sound_client,
    start,
    store_of,
    vendor_at_hand,
    words_of,
)
from tests.waiting import until
from turnmill import Client, InvalidInput, TurnCancelled, TurnFailed
from turnmill.show.turn_view import as_document, look_at, print_view
from turnmill.store.database import Database
from turnmill_worker.layers import thread_lost

CANARY = "CANARY-8f2e"
TOOL = {"name": "f", "description": "f", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    monkeypatch.setattr(thread_lost, "_PAUSES", (timedelta(seconds=0.02),))
    with vendor_at_hand(monkeypatch) as vendor:
        yield vendor


@pytest.fixture
def client(vendor: Vendor) -> Iterator[Client]:
    with sound_client() as client:
        yield client


@pytest.fixture
def store(client: Client) -> Database:
    return store_of(client)


def test_all_turns_of_a_session_are_one_conversation_and_each_sends_what_is_new(
    vendor: Vendor, client: Client
) -> None:
    session = start(client)
    replies = [ask(client, session, text) for text in ("one", "two", "three")]
    ref = conversation(vendor)
    assert [body["conversation"] for body in vendor.asked()] == [ref] * 3
    assert [words_of(body) for body in vendor.asked()] == [["one"], ["two"], ["three"]]
    assert not any("previous_response_id" in body for body in vendor.asked())
    assert [one.own_history for one in replies] == [None] * 3
    assert said(vendor, ref)[::2] == ["one", "two", "three"]
    assert client.sessions.get(session).provider_ref == ref


def test_a_conversation_is_begun_empty_and_says_whose_it_is(vendor: Vendor, client: Client) -> None:
    session = start(client, system_prompt=CANARY)
    ask(client, session, "Hello")
    begun = next(one for one in vendor.double.calls if one.path.endswith("/conversations"))
    assert begun.body == {"metadata": {"turnmill_session": str(session)}}


@pytest.mark.parametrize("verb", ["archive", "delete"])
def test_the_items_go_one_by_one_and_then_the_conversation_when_its_session_ends(
    vendor: Vendor, client: Client, store: Database, verb: str
) -> None:
    session = start(client)
    for text in (CANARY, "two", "three"):
        ask(client, session, text)
    ref = conversation(vendor)
    items = [one["id"] for one in vendor.double.conversations.items_of(ref)]
    getattr(client.sessions, verb)(session)
    until(lambda: not vendor.double.conversations and not vendor.double.kept)
    assert vendor.double.conversations.orphans == []
    assert CANARY not in vendor.stored_text()
    deleted = [path.rpartition("/")[2] for path in vendor.requests("DELETE") if "/items/" in path]
    assert sorted(deleted) == sorted(items)
    until(lambda: owed(store) == 0)


def test_items_that_could_not_be_deleted_are_deleted_later_and_the_conversation_after_them(
    vendor: Vendor, client: Client, store: Database
) -> None:
    session = start(client)
    ask(client, session, CANARY)
    vendor.double.conversations.lock(ref := conversation(vendor))
    client.sessions.delete(session)
    until(lambda: any(one.error_code for one in backlog(store)))
    assert ref in vendor.double.conversations
    vendor.double.conversations.unlock(ref)
    closing_due_now(store)
    until(lambda: not vendor.double.conversations and not vendor.double.kept)
    assert vendor.double.conversations.orphans == []


def test_a_lost_conversation_is_told_of_and_built_anew_by_the_next_turn(
    vendor: Vendor, client: Client
) -> None:
    session = start(client)
    ask(client, session, "one")
    vendor.double.conversations.lose()
    turn = client.send(session, "two")
    reply = turn.result(timeout=WAIT)
    assert reply.own_history == "lost"
    view = look_at(client, turn, text=False)
    assert as_document(view)["own_history"] == "lost"
    print_view(view, console=Console(file=(shown := StringIO()), width=120))
    assert "the vendor has lost its thread" in shown.getvalue()
    body = vendor.asked()[-1]
    assert words_of(body) == ["one", "echo: one [0 before]", "two"]
    assert "conversation" not in body and body["store"] is False
    assert ask(client, session, "three").own_history is None
    assert words_of(vendor.asked()[-1])[-1] == "three" and len(vendor.asked()[-1]["input"]) == 5
    assert vendor.asked()[-1]["conversation"] == conversation(vendor)
    ask(client, session, "four")
    assert words_of(vendor.asked()[-1]) == ["four"]
    assert said(vendor, conversation(vendor))[::2] == ["one", "two", "three", "four"]


def test_a_conversation_that_is_locked_for_long_is_done_without(
    vendor: Vendor, client: Client
) -> None:
    session = start(client)
    ask(client, session, "one")
    vendor.double.conversations.lock(first := conversation(vendor))
    reply = ask(client, session, "two")
    assert reply.own_history == "locked"
    assert [one.error_code for one in reply.attempts[:-1]] == ["conversation_locked"] * 2
    assert "conversation" not in vendor.asked()[-1]
    assert ask(client, session, "three").own_history is None
    assert vendor.asked()[-1]["conversation"] != first
    assert len(vendor.asked()[-1]["input"]) == 5
    vendor.double.conversations.unlock(first)


def test_a_conversation_that_is_locked_for_a_moment_goes_on(vendor: Vendor, client: Client) -> None:
    session = start(client)
    ask(client, session, "one")
    vendor.double.meet("locked")
    reply = ask(client, session, "two")
    assert (reply.own_history, len(reply.attempts)) == (None, 2)
    assert said(vendor, conversation(vendor))[::2] == ["one", "two"]


def test_a_vendor_without_conversations_is_asked_with_our_history_until_it_has_them(
    vendor: Vendor, client: Client
) -> None:
    vendor.double.conversations.are_unavailable = True
    session = start(client)
    assert ask(client, session, "one").own_history == "unavailable"
    assert ask(client, session, "two").own_history == "unavailable"
    assert words_of(vendor.asked()[-1])[::2] == ["one", "two"]
    vendor.double.conversations.are_unavailable = False
    assert ask(client, session, "three").own_history is None
    assert said(vendor, conversation(vendor))[::2] == ["one", "two", "three"]


def test_a_conversation_in_which_calls_fail_for_the_vendors_fault_is_done_without(
    vendor: Vendor, client: Client
) -> None:
    session = start(client)
    ask(client, session, "one")
    vendor.double.conversations.are_unavailable = True
    reply = ask(client, session, "two")
    assert reply.own_history == "unavailable"
    assert "conversation" not in vendor.asked()[-1]


@pytest.mark.parametrize("fault", ["drop", "cut", "bad_json"])
def test_a_call_that_may_have_been_executed_never_stands_in_the_thread_twice(
    vendor: Vendor, client: Client, store: Database, fault: str
) -> None:
    session = start(client)
    ask(client, session, "one")
    first = conversation(vendor)
    vendor.double.meet(fault)
    turn = client.send(session, "two")
    if fault == "bad_json":
        with pytest.raises(TurnFailed):
            turn.result(timeout=WAIT)
    else:
        turn.result(timeout=WAIT)
    ask(client, session, "three")
    until(lambda: len(vendor.double.conversations) == 1)  # the one that nobody can be sure of
    second = conversation(vendor)
    assert second != first
    asked = ["one", "three"] if fault == "bad_json" else ["one", "two", "three"]
    assert said(vendor, second)[::2] == asked
    assert vendor.double.conversations.orphans == []


@pytest.mark.parametrize("fault", ["rate_limited_ms", "overloaded", "no_such_model"])
def test_a_call_that_was_refused_leaves_the_conversation_as_it_was(
    vendor: Vendor, client: Client, fault: str
) -> None:
    session = start(client)
    ask(client, session, "one")
    vendor.double.meet(fault)
    turn = client.send(session, "two")
    if fault == "no_such_model":
        with pytest.raises(TurnFailed):
            turn.result(timeout=WAIT)
    else:
        assert turn.result(timeout=WAIT).own_history is None
    ask(client, session, "three")
    assert vendor.requests("POST", "/conversations") == ["/v1/conversations"]
    assert words_of(vendor.asked()[-1]) == ["three"]


def test_a_cancelled_turn_leaves_nothing_behind_in_the_thread(
    vendor: Vendor, client: Client
) -> None:
    session = start(client)
    ask(client, session, "one")
    first = conversation(vendor)
    vendor.double.meet("hang")
    turn = client.send(session, CANARY)
    until(lambda: len(vendor.asked()) == 2)
    turn.cancel(wait=True)
    with pytest.raises(TurnCancelled):
        turn.result(timeout=WAIT)
    ask(client, session, "three")
    until(lambda: len(vendor.double.conversations) == 1)
    assert conversation(vendor) != first
    assert CANARY not in vendor.stored_text()


def test_a_session_that_is_deleted_while_it_is_asked_leaves_nothing_at_the_vendor(
    vendor: Vendor, client: Client
) -> None:
    session = start(client)
    ask(client, session, "one")
    vendor.double.latency = 0.3
    client.send(session, CANARY)
    until(lambda: len(vendor.asked()) == 2)
    client.sessions.delete(session)
    until(lambda: not vendor.double.conversations and not vendor.double.kept)
    assert vendor.double.conversations.orphans == []
    assert CANARY not in vendor.stored_text()


def test_a_turn_with_tools_is_one_conversation_and_a_failed_one_does_not_brick_it(
    vendor: Vendor, client: Client
) -> None:
    session = start(client, tools=[TOOL])
    vendor.double.meet("ok", "tool_calls")
    turn = client.send(session, "one")
    until(lambda: turn.refresh().state == "waiting")
    (call,) = turn.tool_calls()
    turn.submit_tool_outputs({call.call_id: "42"})
    assert turn.result(timeout=WAIT).text.startswith("echo: 42")
    ref = conversation(vendor)
    assert said(vendor, ref) == [
        *("one", "function_call", "function_call_output", "echo: 42 [2 before]"),
    ]
    vendor.double.meet("tool_calls")
    given_up = client.send(session, "two")
    until(lambda: given_up.refresh().state == "waiting")
    given_up.cancel(wait=True)
    assert ask(client, session, "three").own_history is None
    ask(client, session, "four")
    until(lambda: len(vendor.double.conversations) == 1)
    assert [one for one in said(vendor, conversation(vendor)) if "echo" not in one] == [
        *("one", "function_call", "function_call_output", "three", "four"),
    ]


@pytest.mark.parametrize(
    ("fault", "why", "begun"),
    [("locked", None, 1), ("drop", None, 2), ("lost", "lost", 0)],
)
def test_a_conversation_that_fails_between_two_steps_holds_the_whole_turn_once_or_none_of_it(
    vendor: Vendor, client: Client, fault: str, why: str | None, begun: int
) -> None:
    session = start(client, tools=[TOOL])
    vendor.double.meet("ok", "tool_calls")
    turn = client.send(session, "one")
    until(lambda: turn.refresh().state == "waiting")
    if fault == "lost":
        vendor.double.conversations.lose()
    else:
        vendor.double.meet(fault)
    (call,) = turn.tool_calls()
    turn.submit_tool_outputs({call.call_id: "42"})
    reply = turn.result(timeout=WAIT)
    assert (reply.text, reply.own_history) == ("echo: 42 [2 before]", why)
    assert len(vendor.requests("POST", "/conversations")) == max(begun, 1)
    until(lambda: len(vendor.double.conversations) == min(begun, 1))
    if begun:
        assert said(vendor, conversation(vendor)) == [
            *("one", "function_call", "function_call_output", reply.text),
        ]
    ask(client, session, "two")
    assert said(vendor, conversation(vendor))[:4] == [
        *("one", "function_call", "function_call_output", reply.text),
    ]


def test_work_in_the_background_goes_on_in_its_conversation(
    vendor: Vendor, client: Client, store: Database
) -> None:
    session = start(client, settings={"background": True})
    vendor.double.meet("ok", "slow")
    turn = client.send(session, "one")
    until(lambda: turn.refresh().state == "waiting")
    assert client.sessions.get(session).provider_ref == ""  # it is lent
    vendor.double.finish()
    steps.due_now(store, turn.id)
    turn.result(timeout=WAIT)
    assert client.sessions.get(session).provider_ref == conversation(vendor)
    assert said(vendor, conversation(vendor)) == ["one", "echo: one [0 before]"]


def test_a_streamed_turn_is_one_of_its_conversation_and_a_cut_one_is_none(
    vendor: Vendor, client: Client
) -> None:
    session = start(client)
    turn = client.send(session, "one", stream=True)
    assert (
        "".join(one.text for one in turn.stream() if one.kind == "delta") == "echo: one [0 before]"
    )
    vendor.double.meet("stream_cut")
    client.send(session, "two", stream=True).result(timeout=WAIT)
    until(lambda: len(vendor.double.conversations) == 1)
    assert said(vendor, conversation(vendor))[::2] == ["one", "two"]


def test_a_session_moves_between_a_chain_a_conversation_and_our_own_history(
    vendor: Vendor, client: Client
) -> None:
    session = start(client, thread="chain")
    ask(client, session, "one")
    for thread, text in (("conversation", "two"), ("client", "three"), ("conversation", "four")):
        client.sessions.update(session, thread=thread)
        assert ask(client, session, text).own_history is None
    assert said(vendor, client.sessions.get(session).provider_ref)[::2] == [
        *("one", "two", "three", "four"),
    ]
    client.sessions.update(session, thread="chain")
    ask(client, session, "five")
    assert len(vendor.asked()[-1]["input"]) == 9
    client.sessions.delete(session)
    until(lambda: not vendor.double.conversations and not vendor.double.kept)


def test_a_prompt_that_the_vendor_keeps_goes_with_every_call(
    vendor: Vendor, client: Client
) -> None:
    vendor.double.prompts["pmpt_1"] = {"1": (), "2": ("city",)}
    prompt = {"id": "pmpt_1", "version": 2, "variables": {"city": "Rome"}}
    session = start(client, prompt=prompt)
    ask(client, session, "one")
    ask(client, session, "two")
    assert [body["prompt"] for body in vendor.asked()] == [prompt | {"version": "2"}] * 2
    client.sessions.update(session, prompt="pmpt_1")
    with pytest.raises(TurnFailed) as caught:
        ask(client, session, "three")
    assert caught.value.error_code == "prompt_variable_missing"
    client.sessions.update(session, prompt=None)
    ask(client, session, "four")
    assert "prompt" not in vendor.asked()[-1]
    assert said(vendor, conversation(vendor))[::2] == ["one", "two", "four"]


def test_what_is_no_prompt_is_refused_at_the_door(client: Client) -> None:
    for prompt in (
        *("", {}, {"id": ""}, {"id": 7}, {"version": "1"}, {"id": "p", "else": 1}, 7, ["p"]),
        *({"id": "p", "variables": "x"}, {"id": "p", "variables": {"a": 1}}),
        {"id": "p", "version": 1.5},
    ):
        with pytest.raises(InvalidInput):
            start(client, prompt=prompt)
        with pytest.raises(InvalidInput):
            start(client, settings={"prompt": prompt})
    assert client.sessions.list() == []
