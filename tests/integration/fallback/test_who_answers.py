"""Where one vendor cannot answer, another one does, once: which failures, and which not."""

import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests import closed_targets
from tests.doubles.both_vendors import BothVendors
from tests.falling_back import MODELS, NAMES, OTHER, WAIT, a_session, told, who
from tests.waiting import until
from turnmill import Client, TurnFailed

#: What each vendor's stand-in is told to do, and the code that its attempt keeps.
FAILURES = {
    "overloaded": {"server_overloaded", "overloaded_error"},
    "server_error": {"server_error", "api_error"},
    "bad_gateway": {"http_502"},
    "rate_limited": {"rate_limit_exceeded", "rate_limit_error"},
    "quota": {"insufficient_quota", "enforced_spend_limit_reached"},
    "drop": {"disconnected"},
    "cut": {"truncated"},
    "hang": {"timeout"},
    "bad_json": {"unreadable_reply"},
    "bad_reply": {"unreadable_reply"},
    "no_such_model": {"model_not_found", "not_found_error"},
    "redirect": {"http_307"},
}


#: Seconds that an attempt may take: nobody waits longer for another vendor to be asked.
TIMEOUT = 1.5


@pytest.mark.parametrize("own", sorted(MODELS))
@pytest.mark.parametrize("fault", sorted(FAILURES))
def test_what_one_vendor_fails_at_is_answered_by_the_other_once_and_says_so(
    client: Client, vendors: BothVendors, own: str, fault: str
) -> None:
    vendors.of(own).always = fault
    session = a_session(client, own, settings={"timeout": TIMEOUT})
    reply = told(client, session)
    failed, answered = (one for one in reply.attempts if one.kind == "send")
    assert failed.ended_at is not None
    since = failed.ended_at if fault == "hang" else failed.started_at
    assert answered.started_at - since < timedelta(seconds=TIMEOUT)
    assert reply.text.startswith("echo: Hello")
    assert reply.answered_by == NAMES[OTHER[own]]
    assert reply.answered_because in FAILURES[fault]
    assert (len(vendors.asked(own)), len(vendors.asked(OTHER[own]))) == (1, 1)
    assert who(reply) == [own, OTHER[own]]


def test_a_vendor_that_cannot_be_reached_is_answered_for(
    both: BothVendors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both.forget()
    for name, value in both.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("TURNMILL_DATABASE_URL", f"sqlite:///{tmp_path / 'turnmill.db'}")
    with Client.from_env() as client:
        reply = told(client, a_session(client))
        assert (reply.answered_by, reply.answered_because) == (NAMES["anthropic"], "unreachable")


@pytest.mark.parametrize(
    ("variable", "value", "because", "attempts"),
    [
        ("OPENAI_API_KEY", "sk-wrong", "invalid_api_key", 2),
        ("OPENAI_API_KEY", "", "key_missing", 1),
    ],
)
def test_a_key_that_is_wrong_or_missing_leaves_nobody_without_an_answer(
    both: BothVendors,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    because: str,
    attempts: int,
) -> None:
    both.forget()
    for name, given in {**both.environment, variable: value}.items():
        monkeypatch.setenv(name, given)
    monkeypatch.setenv("TURNMILL_DATABASE_URL", f"sqlite:///{tmp_path / 'turnmill.db'}")
    with Client.from_env() as client:
        session = a_session(client, fallback=["openai/gpt-5", NAMES["anthropic"]])
        reply = told(client, session)
        assert (reply.answered_by, reply.answered_because) == (NAMES["anthropic"], because)
        assert len(reply.attempts) == attempts
        assert len(both.asked("openai")) == attempts - 1


@pytest.mark.parametrize("own", sorted(MODELS))
def test_what_is_the_users_own_is_told_to_the_user_and_asked_of_nobody_else(
    client: Client, vendors: BothVendors, own: str
) -> None:
    refused = a_session(client, own, settings={"no_such_parameter": 1})
    vendors.of(own).window = 10
    too_long = a_session(client, own, fallback=[f"{OTHER[own]}/of-a-size-that-nobody-knows"])
    for session in (refused, too_long):
        with pytest.raises(TurnFailed):
            told(client, session, "much too long for so small a window")
    assert vendors.asked(OTHER[own]) == []


def test_a_conversation_that_is_too_long_goes_to_a_target_that_is_known_to_take_more(
    client: Client, vendors: BothVendors
) -> None:
    vendors.of("openai").always = "context_full"
    larger = client.sessions.create(
        user_id="ada", provider="openai", model="gpt-4", fallback=[NAMES["anthropic"]]
    )
    reply = told(client, larger)
    assert (reply.answered_by, reply.answered_because) == (NAMES["anthropic"], "context_full")


def test_a_target_that_refuses_what_it_is_told_is_passed_over(
    client: Client, vendors: BothVendors
) -> None:
    vendors.openai.meet("overloaded")
    refuses = {
        "provider": "anthropic",
        "model": MODELS["anthropic"],
        "settings": {"no_such_parameter": 1},
    }
    reply = told(client, a_session(client, fallback=[refuses, "openai/gpt-5"]))
    assert (reply.answered_by, reply.answered_because) == ("openai/gpt-5", "server_overloaded")
    assert who(reply) == ["openai", "anthropic", "openai"]


def test_a_benched_target_is_not_asked_again_before_the_others_and_a_pause(
    client: Client, vendors: BothVendors
) -> None:
    vendors.openai.meet("overloaded", "overloaded", "ok")
    vendors.anthropic.meet("server_error")
    reply = told(client, a_session(client, fallback=["openai/gpt-5", NAMES["anthropic"]]))
    models = [one.body["model"] for one in vendors.asked("openai")]
    assert models == [MODELS["openai"], "gpt-5", MODELS["openai"]]
    assert who(reply) == ["openai", "openai", "anthropic", "openai"]
    assert (reply.answered_by, reply.answered_because) == (NAMES["openai"], None)


def test_who_refuses_for_good_is_never_asked_again_in_the_turn(
    client: Client, vendors: BothVendors
) -> None:
    vendors.openai.always = "quota"
    vendors.anthropic.meet("overloaded", "ok")
    reply = told(client, a_session(client))
    assert len(vendors.asked("openai")) == 1
    assert who(reply) == ["openai", "anthropic", "anthropic"]


def test_where_nobody_can_answer_the_turn_ends_with_a_code_and_within_its_attempts(
    client: Client, vendors: BothVendors
) -> None:
    vendors.openai.always, vendors.anthropic.always = "quota", "no_such_model"
    turn = client.send(a_session(client), "Hello")
    with pytest.raises(TurnFailed) as caught:
        turn.result(timeout=WAIT)
    assert caught.value.error_code == "not_found_error"
    assert [one.error_code for one in turn.attempts()] == ["insufficient_quota", "not_found_error"]
    record = turn.refresh().record
    assert (record.answered_by, record.answered_because) == (None, "insufficient_quota")


def test_a_turn_of_one_attempt_is_answered_by_another_target_all_the_same(
    client: Client, vendors: BothVendors
) -> None:
    for fault in ("overloaded", "drop"):
        vendors.openai.meet(fault)
        reply = told(client, a_session(client, max_attempts=1))
        assert reply.answered_by == NAMES["anthropic"]


@pytest.mark.parametrize("waits_for", ["account", "breaker"])
def test_a_closed_target_is_passed_over_in_the_same_attempt(
    client: Client, vendors: BothVendors, waits_for: str
) -> None:
    closed_targets.CLOSED["openai"] = waits_for
    session = a_session(client, settings={"layers": ["gate"]}, max_attempts=1)
    reply = told(client, session)
    assert (reply.answered_by, reply.answered_because) == (NAMES["anthropic"], waits_for)
    assert [
        ("openai", MODELS["openai"]),
        ("anthropic", MODELS["anthropic"]),
    ] == closed_targets.ASKED
    (attempt,) = reply.attempts
    assert (attempt.provider, attempt.outcome) == ("anthropic", "succeeded")
    assert vendors.asked("openai") == []


@pytest.mark.parametrize("fault", ["rate_limited", "quota"])
@pytest.mark.parametrize("own", sorted(MODELS))
def test_an_account_that_one_turn_has_found_closed_is_asked_by_no_other_one(
    client: Client, vendors: BothVendors, own: str, fault: str
) -> None:
    vendors.of(own).always = fault
    assert told(client, a_session(client, own)).answered_because in FAILURES[fault]
    for _ in range(3):
        reply = told(client, a_session(client, own))
        assert (reply.answered_by, reply.answered_because) == (NAMES[OTHER[own]], "account")
        assert len(reply.attempts) == 1
    assert len(vendors.asked(own)) == 1


def test_a_vendor_that_fails_in_rows_is_left_alone_and_nobody_waits_for_it(
    client: Client, vendors: BothVendors
) -> None:
    vendors.openai.always = "drop"
    replies = [told(client, a_session(client)) for _ in range(13)]
    assert {one.answered_by for one in replies} == {NAMES["anthropic"]}
    assert [one.answered_because for one in replies[-2:]] == ["breaker", "breaker"]
    assert len(vendors.asked("openai")) == 10


def test_turns_whose_key_is_refused_at_once_are_all_answered_at_once(
    client: Client, vendors: BothVendors
) -> None:
    vendors.openai.always = "quota"
    turns = [client.send(a_session(client), "Hello") for _ in range(30)]
    began = time.monotonic()
    replies = [one.result(timeout=WAIT) for one in turns]
    assert time.monotonic() - began < WAIT / 2
    assert {one.answered_by for one in replies} == {NAMES["anthropic"]}
    assert len(vendors.asked("anthropic")) == 30


@pytest.mark.parametrize("waits_for", ["limit", "budget"])
def test_a_limit_or_a_budget_is_waited_for_and_not_walked_around(
    client: Client, vendors: BothVendors, waits_for: str
) -> None:
    closed_targets.CLOSED["openai"] = waits_for
    turn = client.send(a_session(client, settings={"layers": ["gate"]}), "Hello")
    until(lambda: turn.refresh().record.waits_for == waits_for)
    assert vendors.asked("anthropic") == []
    closed_targets.CLOSED.clear()
    assert turn.result(timeout=WAIT).answered_by == NAMES["openai"]


def test_a_provider_that_is_paused_is_put_nothing_of_other_sessions(
    client: Client, vendors: BothVendors
) -> None:
    vendors.openai.always = "overloaded"
    client.lanes.pause(provider="anthropic")
    try:
        session = a_session(client, fallback=[NAMES["anthropic"], "mock/mock"])
        assert told(client, session).answered_by == "mock/mock"
        assert vendors.asked("anthropic") == []
    finally:
        client.lanes.resume(provider="anthropic")


def test_where_all_are_closed_the_turn_waits_and_spends_no_attempt(
    client: Client, vendors: BothVendors
) -> None:
    closed_targets.CLOSED.update(openai="account", anthropic="breaker")
    turn = client.send(a_session(client, settings={"layers": ["gate"]}, max_attempts=1), "Hello")
    until(lambda: closed_targets.ASKED.count(("openai", MODELS["openai"])) > 1)
    assert vendors.asked("openai") == vendors.asked("anthropic") == []
    del closed_targets.CLOSED["openai"]
    reply = turn.result(timeout=WAIT)
    assert (reply.answered_by, reply.answered_because) == (NAMES["openai"], None)
    assert len(reply.attempts) == 1


def test_a_request_that_may_have_been_executed_is_held_and_not_put_to_anybody_else(
    client: Client, vendors: BothVendors
) -> None:
    vendors.openai.meet("drop")
    turn = client.send(a_session(client, on_ambiguous="hold"), "Hello")
    until(lambda: turn.refresh().state == "unknown")
    assert vendors.asked("anthropic") == []
    turn.release()
    reply = turn.result(timeout=WAIT)
    assert (reply.answered_by, reply.answered_because) == (NAMES["anthropic"], "disconnected")
    assert [one.kind for one in reply.attempts][:2] == ["send", "check"]


def test_work_in_the_background_is_looked_up_where_it_was_begun(
    client: Client, vendors: BothVendors
) -> None:
    vendors.openai.meet("slow")
    session = a_session(client, settings={"background": True})
    turn = client.send(session, "Hello")
    until(lambda: turn.refresh().state == "waiting")
    client.sessions.update(session, fallback=None)
    vendors.openai.finish()
    reply = turn.result(timeout=WAIT)
    assert reply.answered_by == NAMES["openai"]
    assert vendors.asked("anthropic") == []


def test_a_turn_that_is_retried_begins_with_the_sessions_own_again(
    client: Client, vendors: BothVendors
) -> None:
    vendors.openai.meet("no_such_model")
    vendors.anthropic.meet("no_such_model")
    turn = client.send(a_session(client), "Hello")
    with pytest.raises(TurnFailed):
        turn.result(timeout=WAIT)
    reply = turn.retry().result(timeout=WAIT)
    assert (reply.answered_by, reply.answered_because) == (NAMES["openai"], None)


def test_who_waits_for_all_his_targets_comes_when_the_first_of_them_opens(
    client: Client, vendors: BothVendors
) -> None:
    vendors.openai.always = vendors.anthropic.always = "quota"  # closed for a minute, both
    refused = client.send(a_session(client), "Hello")
    with pytest.raises(TurnFailed):
        refused.result(timeout=WAIT)
    waiting = client.send(a_session(client), "Hello")
    until(lambda: waiting.refresh().record.waits_for == "account")
    vendors.openai.always = vendors.anthropic.always = ""
    client.accounts.open(provider="anthropic")
    reply = waiting.result(timeout=WAIT)
    assert (reply.answered_by, reply.answered_because) == (NAMES["anthropic"], "account")
    assert who(reply) == ["anthropic"]
