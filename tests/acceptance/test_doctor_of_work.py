"""`turnmill doctor` says why work stands still, and what is amiss with workers."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partialmethod
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from celery import Celery
from celery.app.control import Control
from sqlalchemy import insert

from tests import rows, stepping, steps
from tests.acceptance.examining import Place, examined, wrong
from turnmill import __version__, wire
from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane, ToolCallState, TurnState
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.line.pauses import LANE, PROVIDER, pause
from turnmill.store.nouns import sessions, turns
from turnmill.store.nouns.accounts import ACCOUNT, AccountKey, close
from turnmill.store.schema.house_tables import job_runs
from turnmill.store.schema.revision import HEAD
from turnmill.store.schema.schedule_tables import schedules
from turnmill.wire import ABOUT
from turnmill_worker.celery.schedule import SCHEDULE

AGO = timedelta(hours=3)
LIKE_US = {
    "version": __version__,
    "revision": HEAD,
    "providers": ["anthropic", "mock", "openai"],
    "lacks": {"openai": "OPENAI_API_KEY"},
    "lanes": [lane.value for lane in Lane],
    "slots": 100,
    "open_files": 1024,
}


@contextmanager
def answering(broker_url: str, *workers: Any) -> Iterator[None]:
    """Answer as these workers for as long as the block lasts; what a real one says: test_cli.py.

    As many answers are waited for, and no longer.
    """
    app = Celery("standing-in", broker=broker_url, set_as_current=False)
    stop = threading.Event()
    with app.connection_for_read() as connection:
        for n, says in enumerate(workers, 1):
            handlers = {ABOUT: lambda _state, says=says, **_: says}
            node = app.control.mailbox.Node(
                f"w{n}@here", channel=connection.channel(), handlers=handlers
            )
            node.listen()

        def serve() -> None:
            while not stop.is_set():
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.02)

        thread = threading.Thread(target=serve)
        thread.start()
        with mock.patch.object(
            Control, "broadcast", partialmethod(Control.broadcast, limit=len(workers))
        ):
            yield
        stop.set()
        thread.join()
    app.close()


def pausing(kind: str, name: str) -> Callable[[Database], None]:
    def seed(store: Database) -> None:
        rows.send(store, rows.start(store))
        with store.begin() as conn:
            pause(conn, kind=kind, name=name)

    return seed


def session_paused(store: Database) -> None:
    session = rows.start(store)
    rows.send(store, session)
    with store.begin() as conn:
        sessions.pause(conn, session)


def schedule_paused(store: Database) -> None:
    session = rows.start(store)
    new = {"id": new_id(), "session_id": session, "content": [], "cron": "0 * * * *"}
    new |= {"timezone": "UTC", "missed": "once", "lane": "bulk"}
    with store.begin() as conn:
        conn.execute(insert(schedules).values(**new, paused=True, error_code="unstorable"))


def ended(state: TurnState, code: str) -> Callable[[Database], None]:
    def seed(store: Database) -> None:
        turn = rows.send(store, rows.start(store))
        steps.end(store, steps.take_one(store, turn), state, error_code=code)

    return seed


def held(store: Database) -> None:
    turn = rows.send(store, rows.start(store, on_ambiguous="hold"))
    claim = steps.take_one(store, turn)
    steps.mark_sent(store, claim)
    steps.end(store, claim, TurnState.UNKNOWN, outcome="maybe_sent")


def asked_long_ago(store: Database) -> None:
    for state in (ToolCallState.APPROVAL, ToolCallState.CALLER):
        claim = steps.take_one(store, rows.send(store, rows.start(store)))
        stepping.wait(store, stepping.call(store, claim, stepping.new_call(state=state)))
        stepping.set_receipt(store, claim.turn_id, created_at=datetime.now(UTC) - AGO)


def test_whoever_was_asked_long_ago_is_named_in_a_note(place: Place, tmp_path: Path) -> None:
    store = Database(place.database_url)
    asked_long_ago(store)
    store.close()
    said = examined(tmp_path, place.environment)
    notes = {one["code"]: one for one in said.json()["findings"] if one["level"] == "note"}
    assert notes["waits_for_approval"]["fix"].endswith("tools ls --for approval")
    assert notes["waits_for_tool"]["what"].startswith("1 turn waiting for the output of a tool")
    assert [one["code"] for one in wrong(said) if one["check"] == "waiting"] == []


def refused(store: Database) -> None:
    key = AccountKey(kind=ACCOUNT, provider="mock")
    with store.begin() as conn:
        close(conn, key, wait=lambda _: AGO, code="insufficient_quota", permanent=True)


def stuck(store: Database) -> None:
    session = rows.start(store)
    rows.send(store, session)
    rows.set_session(store, session, head_due_at=datetime.now(UTC) - AGO)


def job_begun(store: Database, *, ago: timedelta, **columns: Any) -> None:
    slot = datetime.now(UTC) - ago
    with store.begin() as conn:
        conn.execute(insert(job_runs).values(name="purge", slot=slot, started_at=slot, **columns))


def failing_job(store: Database) -> None:
    for ago in (timedelta(minutes=1), timedelta(minutes=2)):
        job_begun(store, ago=ago, result={"error_code": "store_full"})


def one_overdue(store: Database) -> None:
    """Let all jobs have begun a minute ago, but for one."""
    for entry in SCHEDULE.values():
        ago = timedelta(days=1) if entry.task == wire.PURGE else timedelta(minutes=1)
        at = datetime.now(UTC) - ago
        row = {"name": entry.task, "slot": at, "started_at": at, "finished_at": at}
        with store.begin() as conn:
            conn.execute(insert(job_runs).values(row))


def never_begun(store: Database) -> None:
    rows.set_session(store, rows.start(store), created_at=datetime.now(UTC) - AGO)


def of_provider(name: str) -> Callable[[Database], None]:
    def seed(store: Database) -> None:
        rows.start(store, provider=name, model="one")

    return seed


WORK: Mapping[str, tuple[Callable[[Database], None], str, str, str, int]] = {
    "lane paused": (pausing(LANE, Lane.INTERACTIVE), "pauses", "lane_paused", "resume --lane", 15),
    "provider paused": (
        pausing(PROVIDER, "mock"),
        "pauses",
        "provider_paused",
        "resume --provider mock",
        15,
    ),
    "schedule paused": (
        schedule_paused,
        *("pauses", "schedule_paused", "turnmill schedules resume", 15),
    ),
    "session paused": (session_paused, "pauses", "session_paused", "turnmill sessions resume", 15),
    "dead": (
        ended(TurnState.DEAD, "attempts_exhausted"),
        *("failures", "attempts_exhausted", "turnmill turns retry --all --state dead", 15),
    ),
    "failed for want of a key": (
        ended(TurnState.FAILED, "key_missing"),
        *("failures", "key_missing", "turnmill turns retry --all --state failed", 15),
    ),
    "refused for good": (
        refused,
        *("accounts", "account_closed", "turnmill accounts open mock", 15),
    ),
    "held": (held, "waiting", "held", "turnmill turns release", 15),
    "stuck": (stuck, "waiting", "stuck", "database", 15),
    "overdue": (
        lambda store: job_begun(store, ago=AGO),
        "schedule",
        "jobs_overdue",
        "turnmill beat",
        15,
    ),
    "one overdue": (one_overdue, "schedule", "job_overdue", "turnmill upkeep run purge", 15),
    "never begun": (never_begun, "schedule", "jobs_overdue", "turnmill beat", 15),
    "failing": (failing_job, "schedule", "job_failing", "log", 15),
    "no key at the worker": (
        of_provider("openai"),
        "providers",
        "key_missing",
        "set OPENAI_API_KEY",
        10,
    ),
    "no such provider": (of_provider("gone"), "providers", "provider_unknown", "install", 10),
}


@pytest.mark.parametrize("name", WORK)
def test_each_standstill_has_its_cause_remedy_and_exit_code(
    name: str, place: Place, tmp_path: Path
) -> None:
    seed, check, code, fix, exit_code = WORK[name]
    store = Database(place.database_url)
    seed(store)
    store.close()
    with answering(place.broker_url, LIKE_US):
        said = examined(tmp_path, place.environment)
    [found] = wrong(said)
    assert (found["check"], found["code"]) == (check, code)
    assert fix in found["fix"]
    assert said.code == exit_code


def test_no_later_failure_hides_a_code_that_has_to_be_set_right(
    place: Place, tmp_path: Path
) -> None:
    store = Database(place.database_url)
    for code in ("provider_unknown", "key_missing", "key_missing", "content_filter"):
        ended(TurnState.FAILED, code)(store)
    for code in ("worker_lost", "attempts_exhausted"):
        ended(TurnState.DEAD, code)(store)
    store.close()
    with answering(place.broker_url, LIKE_US):
        said = examined(tmp_path, place.environment)
    told = [one for one in said.json()["findings"] if one["check"] == "failures"]
    assert [(one["level"], one["what"].replace(" within 24 h", "")) for one in told] == [
        ("wrong", "2 turns failed: key_missing"),
        ("wrong", "1 turn failed: provider_unknown"),
        ("wrong", "2 turns dead: attempts_exhausted (1), worker_lost (1)"),
        ("note", "1 turn failed: content_filter"),
    ]
    assert told[0]["fix"].endswith("--state failed --error-code key_missing")


def test_a_dead_turn_that_was_run_again_as_another_one_is_no_fault_any_more(
    place: Place, tmp_path: Path
) -> None:
    store = Database(place.database_url)
    session = rows.start(store)
    dead = rows.send(store, session)
    rows.run(store, dead, TurnState.DEAD, error_code="attempts_exhausted")
    rows.run(store, rows.send(store, session))
    with store.begin() as conn:
        copy = turns.retry(conn, dead, new_id=TurnId(new_id())).turn_id
    assert copy != dead
    rows.run(store, copy)
    store.close()
    with answering(place.broker_url, LIKE_US):
        assert wrong(examined(tmp_path, place.environment)) == []


def like_us(**other: Any) -> dict[str, Any]:
    return LIKE_US | other


WORKERS: Mapping[str, tuple[list[Any], list[str]]] = {
    "nobody": ([], ["none"]),
    "two of one version": ([LIKE_US, LIKE_US], []),
    "another version": ([LIKE_US, like_us(version="0.0.9")], ["mixed_versions"]),
    "another schema": ([like_us(revision="0001")], ["mixed_versions"]),
    "does not know the question": ([{"error": "KeyError()"}], ["mixed_versions"]),
    "a lane that nobody takes": ([like_us(lanes=["interactive"])], ["lane_without_worker"]),
    "lanes shared out": (
        [like_us(lanes=["interactive", "quarantine"]), like_us(lanes=["bulk"])],
        [],
    ),
    "few open files": ([like_us(open_files=99)], ["open_files"]),
    "says nonsense": (
        [like_us(version=["\x1b]0;t\x07"], providers=7, lacks=["x"], lanes={}, slots="many")],
        ["mixed_versions"],
    ),
}


@pytest.mark.parametrize("name", WORKERS)
def test_workers_are_judged_by_what_they_say_of_themselves(
    name: str, place: Place, tmp_path: Path
) -> None:
    say, codes = WORKERS[name]
    with answering(place.broker_url, *say):
        said = examined(tmp_path, place.environment)
    assert [one["code"] for one in wrong(said) if one["check"] == "workers"] == codes
    assert said.code == (14 if codes else 0)


def test_a_key_that_one_worker_has_and_another_lacks_is_told_by_the_name_of_the_worker(
    place: Place, tmp_path: Path
) -> None:
    store = Database(place.database_url)
    rows.start(store, provider="openai", model="one")
    store.close()
    with answering(place.broker_url, LIKE_US, like_us(lacks={})):
        [found] = wrong(examined(tmp_path, place.environment))
    assert found["what"] == "openai: 1 session, and OPENAI_API_KEY is not set at w1@here"
