"""Cancelling from a client's side: waited for, with what had come, on every store."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import update

from tests import steps
from turnmill import AsyncClient, Client, InvalidInput, Turn, TurnCancelled, TurnState, TurnTimeout
from turnmill.cli.commands.sessions import command as sessions_command
from turnmill.cli.commands.turns import command as turns_command
from turnmill.store.database import Database
from turnmill.store.schema.tables import turns as turn_rows
from turnmill_worker.process import embedded
from turnmill_worker.providers.mock.provider import MockProvider
from turnmill_worker.providers.port import Done, Emit, Request

WAIT = 20
REPLY = "Once upon a time."


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path / 'turnmill.db'}"


@pytest.fixture
def half_way(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let the mock say half of its reply, and wait; the event tells that it has."""
    told, answer = threading.Event(), MockProvider.send

    async def send(self: MockProvider, request: Request, emit: Emit | None = None) -> Done:
        if request.text != "tell me":
            found = await answer(self, request, emit)
            assert isinstance(found, Done)
            return found
        if emit is not None:
            for piece in ("Once ", "upon "):
                await emit(piece)
        told.set()
        await asyncio.sleep(3600)
        return Done(text=REPLY)

    monkeypatch.setattr(MockProvider, "send", send)
    return told


def sent(client: Client, text: str, *, stream: bool = True) -> Turn:
    """Return a turn in the session `s`, which is paused."""
    client.sessions.pause(client.sessions.create(user_id="ada", key="s"))
    turn = client.send("s", text)
    with client._executor.database.begin() as conn:
        conn.execute(update(turn_rows).values(stream=stream))
    return turn


@contextmanager
def telling(
    url: str, half_way: threading.Event, *, stream: bool = True
) -> Iterator[tuple[Client, Turn]]:
    with Client(database_url=url) as client:
        turn = sent(client, "tell me", stream=stream)
        client.sessions.resume("s")
        assert half_way.wait(WAIT)
        yield client, turn


def test_a_cancel_that_is_waited_for_returns_the_end_and_keeps_what_had_come(
    url: str, half_way: threading.Event
) -> None:
    with telling(url, half_way) as (_, turn):
        assert turn.cancel(wait=True, keep_partial=True, timeout=WAIT) is TurnState.CANCELLED
        said = [(one.role, one.text, one.partial) for one in turn.messages()]
        assert said == [("user", "tell me", False), ("assistant", "Once upon ", True)]
        with pytest.raises(TurnCancelled) as raised:
            turn.result(timeout=WAIT)
        assert "Once" not in str(raised.value)


def test_no_later_turn_is_shown_what_was_kept(url: str, half_way: threading.Event) -> None:
    with telling(url, half_way) as (client, turn):
        turn.cancel(wait=True, keep_partial=True, timeout=WAIT)
        assert "[0 before]" in client.send("s", "and now?").result(timeout=WAIT).text


def test_without_being_asked_nothing_is_kept(url: str, half_way: threading.Event) -> None:
    with telling(url, half_way) as (_, turn):
        turn.cancel(wait=True, timeout=WAIT)
        assert [one.role for one in turn.messages()] == ["user"]


@pytest.mark.parametrize("stream", [True, False])
def test_what_a_cancelled_call_has_used_is_an_estimate(
    url: str, half_way: threading.Event, *, stream: bool
) -> None:
    with telling(url, half_way, stream=stream) as (_, turn):
        turn.cancel(wait=True, timeout=WAIT)
        (attempt,) = turn.attempts()
        assert (attempt.outcome, attempt.estimated) == ("cancelled", True)
        came = 3 if stream else 0  # ten letters
        assert (attempt.input_tokens, attempt.output_tokens) == (2, came)
        assert (turn.record.input_tokens, turn.record.output_tokens) == (2, came)


def test_a_runner_that_is_never_idle_hears_of_cancels_too(
    half_way: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    with telling("sqlite://", half_way) as (_, turn):
        busy = threading.Event()
        real = embedded.InProcessRunner._start_due

        async def always_something(self: embedded.InProcessRunner, *given: object) -> bool:
            await real(self, *given)  # type: ignore[arg-type]
            await asyncio.sleep(0.001)
            return not busy.is_set()

        monkeypatch.setattr(embedded.InProcessRunner, "_start_due", always_something)
        assert turn.cancel(wait=True, timeout=WAIT) is TurnState.CANCELLED
        busy.set()


def test_a_turn_that_has_ended_stays_what_it_is_and_nobody_waits(url: str) -> None:
    with Client(database_url=url) as client:
        turn = client.send(client.sessions.create(user_id="ada"), "hello")
        turn.result(timeout=WAIT)
        assert turn.cancel(wait=True, keep_partial=True) is TurnState.SUCCEEDED


def test_who_waits_no_longer_leaves_the_turn_being_cancelled(database_url: str) -> None:
    with Client(database_url=database_url) as client, store_of(database_url) as store:
        turn = claimable(client, "hello")
        claim = steps.take_one(store, turn.id)
        with pytest.raises(TurnTimeout, match="is being cancelled"):
            turn.cancel(wait=True, timeout=timedelta(seconds=0.1))
        steps.end(store, claim)
        assert turn.cancel(wait=True, timeout=0) is TurnState.CANCELLED


@pytest.mark.anyio
async def test_the_asynchronous_client_waits_as_well(database_url: str) -> None:
    with Client(database_url=database_url) as other:
        turn_id = claimable(other, "hello").id
    async with AsyncClient(database_url=database_url) as client:
        turn = await client.turns.get(turn_id)
        with store_of(database_url) as store:
            claim = await asyncio.to_thread(steps.take_one, store, turn.id)
            waiting = asyncio.create_task(turn.cancel(wait=True, keep_partial=True, timeout=WAIT))
            while not (await turn.refresh()).record.cancel_requested:
                assert not waiting.done()
            await asyncio.to_thread(steps.end, store, claim, reply=REPLY)
            assert await waiting is TurnState.CANCELLED
        assert [one.text for one in await turn.messages() if one.partial] == [REPLY]


@pytest.mark.parametrize("wrong", [{"wait": "yes"}, {"keep_partial": 1}, {"timeout": -1}])
def test_what_makes_no_sense_cancels_nothing(database_url: str, wrong: dict[str, object]) -> None:
    with Client(database_url=database_url) as client:
        turn = client.send(client.sessions.create(user_id="ada"), "hello")
        with pytest.raises(InvalidInput):
            turn.cancel(**wrong)  # type: ignore[arg-type]
        assert turn.refresh().state is TurnState.QUEUED


def test_the_command_line_waits_keeps_and_shows_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNMILL_DATABASE_URL", database_url)
    monkeypatch.delenv("TURNMILL_BROKER_URL", raising=False)
    with Client(database_url=database_url) as client, store_of(database_url) as store:
        turn = claimable(client, "tell me")
        claim = steps.take_one(store, turn.id)
        cut = {"partial": "Once upon ", "input_tokens": 1200, "output_tokens": 3}
        ended = threading.Thread(target=end_when_cancelled, args=(store, turn, claim, cut))
        ended.start()
        told = CliRunner().invoke(
            turns_command, ["cancel", str(turn.id), "--wait", "--keep-partial", "--json"]
        )
        ended.join()
    assert json.loads(told.stdout) == {"id": str(turn.id), "state": "cancelled"}
    shown = CliRunner().invoke(turns_command, ["show", str(turn.id), "--text"]).stdout
    assert "assistant (partial: the turn was cancelled):" in shown
    assert "Once upon" in shown
    assert "~1,200 tokens in, 3 out" in shown
    document = CliRunner().invoke(turns_command, ["show", str(turn.id), "--text", "--json"])
    assert json.loads(document.stdout)["partial"] == {"text": "Once upon "}
    session = CliRunner().invoke(sessions_command, ["show", "s", "--text"]).stdout
    assert "turn 1, cancelled, partial" in session


def end_when_cancelled(store: Database, turn: Turn, claim: object, cut: dict[str, object]) -> None:
    while not steps.turn(store, turn.id).cancel_requested:
        pass
    steps.end(store, claim, TurnState.CANCELLED, estimated=True, **cut)  # type: ignore[arg-type]


def claimable(client: Client, text: str) -> Turn:
    turn = sent(client, text)
    client.sessions.resume("s")
    return turn


@contextmanager
def store_of(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()
