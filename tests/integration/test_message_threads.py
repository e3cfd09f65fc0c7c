"""A session whose thread Anthropic holds for minutes: from `send` to the vendor's stand-in."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests import steps
from tests.doubles.both_vendors import BothVendors
from tests.openai_sessions import ask, owed, store_of
from tests.waiting import until
from turnmill import Client, tool
from turnmill.domain.ids import SessionId
from turnmill.testing import memory_client

MODEL = "claude-sonnet-4-5"


@tool(effects="none")
def f() -> str:
    """Do what the stand-in calls."""
    return "done"


@pytest.fixture
def vendors(monkeypatch: pytest.MonkeyPatch) -> Iterator[BothVendors]:
    with BothVendors() as both:
        for name, value in both.environment.items():
            monkeypatch.setenv(name, value)
        yield both


@pytest.fixture
def client(vendors: BothVendors) -> Iterator[Client]:
    with memory_client(tools=[f]) as client:
        yield client
        steps.assert_sound(store_of(client))


def start(client: Client, **options: Any) -> SessionId:
    given = {"provider": "anthropic", "model": MODEL, "thread": "chain"} | options
    return client.sessions.create(user_id="ada", system_prompt="Be brief.", **given).id


def sent(vendors: BothVendors) -> list[tuple[str, int]]:
    """Return of each call how its thread went on, and how many messages it brought along."""
    bodies = [one.body for one in vendors.asked("anthropic") if "messages" in one.body]
    return [(one.get("thread", {}).get("type", ""), len(one["messages"])) for one in bodies]


def test_a_turn_sends_what_is_new_and_the_vendor_has_the_rest(
    vendors: BothVendors, client: Client
) -> None:
    session = start(client)
    replies = [ask(client, session, text) for text in ("one", "two", "three")]
    assert sent(vendors) == [("create", 1), ("continue", 1), ("continue", 1)]
    assert [one.text for one in replies] == [
        "echo: one [0 before]",
        "echo: two [2 before]",
        "echo: three [4 before]",
    ]
    assert [one.own_history for one in replies] == [None] * 3
    assert len([*client.sessions.history(session)]) == 6


def test_what_the_vendor_has_lost_it_is_sent_again_and_goes_on_from_there(
    vendors: BothVendors, client: Client
) -> None:
    session = start(client)
    ask(client, session, "one")
    vendors.anthropic.forget()
    reply = ask(client, session, "two")
    assert (reply.text, reply.own_history) == ("echo: two [2 before]", "lost")
    assert ask(client, session, "three").own_history is None
    asked = [("create", 1), ("continue", 1), ("create", 3), ("continue", 1)]
    assert sent(vendors) == asked


@pytest.mark.parametrize(
    "change", [{"system_prompt": "Be long."}, {"model": "claude-haiku-4-5"}, {"thread": "client"}]
)
def test_a_session_that_is_set_up_anew_is_sent_whole_and_nobody_calls_that_a_loss(
    vendors: BothVendors, client: Client, change: dict[str, Any]
) -> None:
    session = start(client)
    ask(client, session, "one")
    client.sessions.update(session, **change)
    reply = ask(client, session, "two")
    assert (reply.text, reply.own_history) == ("echo: two [2 before]", None)
    begun = "" if "thread" in change else "create"
    assert sent(vendors) == [("create", 1), (begun, 3)]


def test_a_call_that_was_cut_is_made_again_with_all_of_it(
    vendors: BothVendors, client: Client
) -> None:
    session = start(client)
    ask(client, session, "one")
    vendors.anthropic.meet("cut")
    reply = ask(client, session, "two")
    assert (reply.text, reply.own_history) == ("echo: two [2 before]", None)
    assert [one.kind for one in reply.attempts] == ["send", "check", "send"]
    assert sent(vendors) == [("create", 1), ("continue", 1), ("continue", 1), ("create", 3)]


def test_a_turn_that_is_refused_leaves_the_thread_where_it_was(
    vendors: BothVendors, client: Client
) -> None:
    session = start(client)
    ask(client, session, "one")
    vendors.anthropic.meet("rate_limited_ms")
    assert ask(client, session, "two").text == "echo: two [2 before]"
    assert sent(vendors) == [("create", 1), ("continue", 1), ("continue", 1)]


def test_the_steps_of_a_turn_send_the_outputs_of_its_tools_alone(
    vendors: BothVendors, client: Client
) -> None:
    session = start(client, settings={"tools": ["f"]})
    vendors.anthropic.meet("tool_calls")
    ask(client, session, "one")
    assert ask(client, session, "two").text.endswith("[4 before]")
    assert sent(vendors) == [("create", 1), ("continue", 1), ("continue", 1)]


def test_who_answers_in_its_place_is_told_all_of_it_and_so_is_the_vendor_afterwards(
    vendors: BothVendors, client: Client
) -> None:
    fallback = [{"provider": "openai", "model": "gpt-5-mini"}]
    session = start(client, fallback=fallback)
    ask(client, session, "one")
    vendors.anthropic.meet("no_such_model")
    reply = ask(client, session, "two")
    assert reply.answered_by == "openai/gpt-5-mini"
    third = ask(client, session, "three")
    assert (third.answered_by, third.text) == (f"anthropic/{MODEL}", "echo: three [4 before]")
    assert sent(vendors)[-1] == ("create", 5)


def test_nothing_is_owed_to_the_vendor_when_the_session_ends(
    vendors: BothVendors, client: Client
) -> None:
    session = start(client)
    for text in ("one", "two"):
        ask(client, session, text)
    asked = len(vendors.asked("anthropic"))
    client.sessions.delete(session)
    until(lambda: owed(store_of(client)) == 0)
    assert [one.method for one in vendors.anthropic.calls] == ["POST"] * asked


def test_what_was_said_long_ago_is_sent_whole(
    vendors: BothVendors, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    session = start(client)
    ask(client, session, "one")
    later = time.time() + timedelta(minutes=6).total_seconds()
    monkeypatch.setattr("turnmill_worker.providers.anthropic.threads.time.time", lambda: later)
    reply = ask(client, session, "two")
    assert (reply.text, reply.own_history) == ("echo: two [2 before]", None)
    assert sent(vendors) == [("create", 1), ("create", 3)]
