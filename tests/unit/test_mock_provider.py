"""The mock: the same for the same turn, and out of order on demand."""

import asyncio
import multiprocessing
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from turnmill.domain.content import Message
from turnmill.domain.errors import (
    InvalidSetting,
    MaybeSent,
    Overloaded,
    RateLimited,
    Rejected,
    ThreadLost,
)
from turnmill.domain.ids import SessionId, TurnId
from turnmill_worker.providers.mock.executions import Executions
from turnmill_worker.providers.mock.provider import FAULTS, MockProvider, messages_seen
from turnmill_worker.providers.port import Absent, Done, Request, Running, Unknowable


def a_request(text: str = "Hello", **given: Any) -> Request:
    defaults: dict[str, Any] = {
        "turn_id": TurnId(uuid4()),
        "session_id": SessionId(uuid4()),
        "attempt": 1,
        "fence": 1,
        "model": "mock-1",
    }
    return Request(messages=[Message.of("user", text)], **{**defaults, **given})


def scripted(**script: Any) -> dict[str, Any]:
    return {"mock": script}


def send(mock: MockProvider, request: Request) -> Done | Running:
    return asyncio.run(mock.send(request))


def answer(mock: MockProvider, request: Request) -> Done:
    reply = send(mock, request)
    assert isinstance(reply, Done)
    return reply


def test_a_reply_is_the_same_wherever_and_whenever_it_is_asked_for() -> None:
    reply = answer(MockProvider(), a_request())
    assert reply.text == "Understood. You said: Hello [0 before]"
    assert answer(MockProvider(), a_request()).text == reply.text
    assert answer(MockProvider(), a_request()).usage == reply.usage


def test_another_seed_answers_in_other_words() -> None:
    texts = {answer(MockProvider(seed=str(seed)), a_request()).text for seed in range(20)}
    assert 1 < len(texts) <= 4


def test_usage_grows_with_what_is_shown_and_said() -> None:
    short = answer(MockProvider(), a_request()).usage
    history = [Message.of("user", "x" * 400)]
    long = answer(MockProvider(), a_request(history=history, system_prompt="y" * 400)).usage
    assert (long.input_tokens or 0) - (short.input_tokens or 0) == 200


def test_a_reply_counts_the_messages_that_it_was_shown() -> None:
    history = [Message.of("user", "a"), Message.of("assistant", "b")]
    assert messages_seen(answer(MockProvider(), a_request(history=history)).text) == 2
    with pytest.raises(ValueError, match="not a reply of the mock"):
        messages_seen("Hello")


def test_a_script_may_dictate_the_reply() -> None:
    assert answer(MockProvider(), a_request(metadata=scripted(reply="As told."))).text == "As told."


def test_faults_come_one_an_attempt_and_then_no_more() -> None:
    mock = MockProvider()
    request = a_request(metadata=scripted(faults=["rate_limited", "ok"], retry_after=3))
    with pytest.raises(RateLimited) as caught:
        send(mock, request)
    assert caught.value.retry_after == timedelta(seconds=3)
    for attempt in (2, 3):
        assert isinstance(send(mock, replace(request, attempt=attempt)), Done)


def test_a_single_fault_comes_every_time() -> None:
    request = a_request(metadata=scripted(faults="rejected"))
    for attempt in (1, 2, 9):
        with pytest.raises(Rejected):
            send(MockProvider(), replace(request, attempt=attempt))


def test_the_script_of_a_turn_wins_over_that_of_its_session() -> None:
    settings = scripted(faults="rejected", reply="Of the session.")
    healed = a_request(settings=settings, metadata=scripted(faults="ok"))
    assert answer(MockProvider(), healed).text == "Of the session."
    with pytest.raises(Rejected):
        send(MockProvider(), a_request(settings=settings))


@pytest.mark.parametrize(
    "script", [{"faults": "no such"}, {"latency": "long"}, {"latency": -1}, {"retry_after": True}]
)
def test_a_script_that_makes_no_sense_is_refused(script: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as caught:
        send(MockProvider(), a_request(metadata={"mock": script}))
    assert caught.value.error_code == "setting_refused"


def test_latency_is_drawn_once_for_a_turn_and_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    mock = MockProvider(latency=(timedelta(seconds=1), timedelta(seconds=2)))
    turn_id = TurnId(UUID(int=1))
    for attempt in (1, 1, 2):
        send(mock, a_request(turn_id=turn_id, attempt=attempt))
    send(mock, a_request(metadata=scripted(latency=0.25)))
    assert waits[0] == waits[1] != waits[2]
    assert all(1 <= wait <= 2 for wait in waits[:3])
    assert waits[3] == 0.25


@pytest.mark.parametrize(
    ("value", "least", "most"), [("0.1-0.4", 0.1, 0.4), ("2", 2, 2), ("", 0, 0)]
)
def test_latency_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str, least: float, most: float
) -> None:
    monkeypatch.setenv("TURNMILL_MOCK_LATENCY", value)
    bounds = MockProvider.from_env()._latency
    assert bounds == (timedelta(seconds=least), timedelta(seconds=most))


@pytest.mark.parametrize("value", ["soon", "-1", "2-1", "nan", "inf"])
def test_a_latency_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TURNMILL_MOCK_LATENCY", value)
    with pytest.raises(InvalidSetting, match="TURNMILL_MOCK_LATENCY"):
        MockProvider.from_env()


def test_a_thread_is_kept_by_its_reference_alone() -> None:
    mock, settings = MockProvider(), {"thread": "chain"}
    first = answer(mock, a_request(settings=settings))
    second = answer(mock, a_request(settings=settings, thread_ref=first.thread_ref))
    third = answer(mock, a_request(settings=settings, thread_ref=second.thread_ref))
    assert messages_seen(third.text) == 4


def test_a_thread_is_lost_once_and_not_again_when_it_was_rebuilt() -> None:
    script = scripted(faults="thread_lost")
    lost = a_request(metadata=script, settings={"thread": "chain"}, thread_ref="mock-thread-2")
    with pytest.raises(ThreadLost):
        send(MockProvider(), lost)
    assert isinstance(send(MockProvider(), replace(lost, thread_ref="")), Done)


def test_a_turn_that_was_never_started_is_absent(tmp_path: Path) -> None:
    mock = MockProvider(ledger=tmp_path / "ledger")
    request = a_request(metadata=scripted(faults="rate_limited"))
    with pytest.raises(RateLimited):
        send(mock, request)
    assert asyncio.run(mock.check(request)) == Absent()


def test_a_turn_whose_answer_was_lost_is_found_with_the_same_answer(tmp_path: Path) -> None:
    mock = MockProvider(ledger=tmp_path / "ledger")
    request = a_request(metadata=scripted(faults=["cut"]))
    with pytest.raises(MaybeSent):
        send(mock, request)
    found = asyncio.run(MockProvider(ledger=tmp_path / "ledger").check(request))
    assert found == answer(MockProvider(), replace(request, metadata={}))


def test_a_turn_that_was_only_started_cannot_be_known(tmp_path: Path) -> None:
    mock = MockProvider(ledger=tmp_path / "ledger")
    request = a_request(metadata=scripted(faults=["maybe_sent"]))
    with pytest.raises(MaybeSent):
        send(mock, request)
    assert asyncio.run(mock.check(request)) == Unknowable()
    assert asyncio.run(MockProvider().check(request)) == Unknowable()


def test_work_in_the_background_runs_until_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("turnmill_worker.providers.mock.provider.time.time", lambda: now)
    mock = MockProvider()
    request = a_request(metadata=scripted(faults="running", latency=60))
    begun = send(mock, request)
    assert isinstance(begun, Running)
    request = replace(request, native_ref=begun.native_ref)
    assert asyncio.run(mock.check(request)) == replace(begun, poll_after=timedelta(seconds=60))
    now = 1060.0
    assert isinstance(asyncio.run(mock.check(request)), Done)


def test_the_ledger_holds_every_call_with_ids_and_times_and_no_content(tmp_path: Path) -> None:
    ledger = Executions(tmp_path / "ledger")
    mock = MockProvider(ledger=tmp_path / "ledger")
    requests = [a_request("CANARY", attempt=n, fence=10 + n) for n in (1, 2)]
    for request in requests:
        send(mock, request)
    calls = ledger.calls()
    assert [(call.turn_id, call.attempt, call.fence) for call in calls] == [
        (request.turn_id, request.attempt, request.fence) for request in requests
    ]
    assert all(call.ended_at is not None and call.ended_at >= call.started_at for call in calls)
    assert "CANARY" not in (tmp_path / "ledger").read_text()


def test_the_ledger_shows_a_turn_that_was_called_twice_under_one_fence(tmp_path: Path) -> None:
    mock = MockProvider(ledger=tmp_path / "ledger")
    request = a_request()
    send(mock, request)
    send(mock, request)
    assert len(Executions(tmp_path / "ledger").calls_of(request.turn_id)) == 2


def _ask(path: Path, request: Request) -> None:
    asyncio.run(MockProvider(ledger=path).send(request))


def test_a_segfault_takes_the_process_and_leaves_a_call_without_an_end(tmp_path: Path) -> None:
    request = a_request(metadata=scripted(faults="segfault"))
    child = multiprocessing.get_context("spawn").Process(
        target=_ask, args=(tmp_path / "ledger", request)
    )
    child.start()
    child.join(timeout=60)
    assert child.exitcode == -signal.SIGSEGV
    (call,) = Executions(tmp_path / "ledger").calls()
    assert (call.turn_id, call.ended_at) == (request.turn_id, None)


def test_many_processes_share_one_ledger(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    requests = [a_request(fence=n) for n in range(6)]
    children = [
        context.Process(target=_ask, args=(tmp_path / "ledger", request)) for request in requests
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=60)
    called = {call.turn_id for call in Executions(tmp_path / "ledger").calls()}
    assert called == {request.turn_id for request in requests}


def test_every_fault_is_explained() -> None:
    explained = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
    assert [fault for fault in FAULTS if f"| `{fault}` |" not in explained] == []


@pytest.mark.parametrize("asked", ["yes", "faults"])
def test_in_production_a_script_of_faults_is_obeyed_only_where_that_is_asked_for(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNMILL_PROFILE", "production")
    monkeypatch.setenv("TURNMILL_ENCRYPTION", "off")
    monkeypatch.setenv("TURNMILL_ALLOW_MOCK", asked)
    mock = MockProvider.from_env()
    assert answer(mock, a_request()).text
    with pytest.raises(Rejected if asked == "yes" else Overloaded):
        answer(mock, a_request(metadata=scripted(faults="overloaded")))


@pytest.mark.parametrize("script", [{"faults": "hang"}, {"faults": "stall"}, {"latency": 60}])
def test_it_is_given_up_after_the_timeout_of_its_session(script: dict[str, Any]) -> None:
    settings = scripted(**script) | {"timeout": 0.01}
    with pytest.raises(MaybeSent, match="timeout"):
        send(MockProvider(), a_request(settings=settings))
    with pytest.raises(Rejected):
        send(MockProvider(), a_request(settings=settings | {"timeout": -1}))
