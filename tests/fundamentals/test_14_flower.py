"""Flower tells the truth about turns: failed is failed, and no word of anybody's is there."""

import json
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.fundamentals.conftest import System
from tests.fundamentals.test_09_secrecy import logs, page
from tests.waiting import until
from turnmill import Client, TurnFailed
from turnmill.broker.publisher import Publisher
from turnmill.domain.states import Lane
from turnmill.store.records import Head
from turnmill.sync.turns import Turn

WAIT = 30
SOON = timedelta(seconds=20)
CANARY = "canary-c40e77"
REJECTED = {"mock": {"faults": "rejected"}}


def send(client: Client, script: Mapping[str, Any] | None = None, **options: Any) -> Turn:
    session = client.sessions.create(user_id="ada", **options)
    return client.send(session, CANARY, metadata=script or {})


def tasks(system: System, query: str) -> dict[str, dict[str, Any]]:
    """Return what Flower finds, by task id."""
    found: dict[str, dict[str, Any]] = json.loads(
        page(system.flower_url, f"/api/tasks?search={query}")
    )
    return found


def state_of(system: System, turn_id: UUID) -> str:
    return str(tasks(system, f"args:{turn_id}").get(str(turn_id), {}).get("state"))


def test_a_failed_turn_is_a_failure_in_flower_and_one_warning_in_the_log(
    client: Client, system: System
) -> None:
    failed = send(client, REJECTED)
    dead = send(client, {"mock": {"faults": ["overloaded"]}}, max_attempts=1)
    good = send(client)
    for turn in (failed, dead):
        with pytest.raises(TurnFailed):
            turn.result(timeout=WAIT)
    good.result(timeout=WAIT)
    until(lambda: state_of(system, failed.id) == state_of(system, dead.id) == "FAILURE")
    until(lambda: state_of(system, good.id) == "SUCCESS")
    shown = tasks(system, f"args:{failed.id}")[str(failed.id)]
    assert shown["exception"] == f"TurnFailed('invalid_prompt: turn {failed.id}')"
    assert not shown["traceback"]
    (line,) = [line for line in logs(system.home).splitlines() if str(failed.id) in line]
    assert f" WARNING turnmill.turn] turn {failed.id} failed: invalid_prompt (session" in line
    assert f"turn {dead.id} is dead: overloaded" in logs(system.home)
    assert "Traceback" not in logs(system.home)


def test_a_second_hint_of_a_failed_turn_does_not_make_it_a_success(
    client: Client, system: System
) -> None:
    turn = send(client, REJECTED)
    with pytest.raises(TurnFailed):
        turn.result(timeout=WAIT)
    publisher = Publisher(system.broker_url, hints_max=1000)
    head = Head(turn_id=turn.id, session_id=turn.session_id, lane=Lane.INTERACTIVE)
    assert publisher.announce([head]) == 1
    publisher.close()
    until(lambda: tasks(system, str(turn.id)).get(str(turn.id), {}).get("revoked"))
    assert state_of(system, turn.id) == "FAILURE"


def test_a_turn_that_came_again_shows_the_code_of_what_it_came_again_for(
    client: Client, system: System
) -> None:
    turn = send(client, {"mock": {"faults": ["overloaded"]}})
    turn.result(timeout=WAIT)
    until(lambda: state_of(system, turn.id) == "SUCCESS")
    assert tasks(system, str(turn.id))[str(turn.id)]["exception"] == "Again('overloaded')"


def test_a_cancelled_turn_is_revoked_and_no_success(client: Client, system: System) -> None:
    turn = send(client, {"mock": {"latency": 600}})
    until(lambda: turn.refresh().state == "running")
    turn.cancel()
    until(lambda: state_of(system, turn.id) == "REVOKED")
    assert "a provider raised CancelledError" not in logs(system.home)


def test_a_bulk_task_succeeds_names_its_failed_turns_and_is_found_by_any_of_them(
    client: Client, system: System
) -> None:
    sessions = [client.sessions.create(user_id="ada") for _ in range(20)]
    turns = client.send_many([(session, CANARY) for session in sessions])
    bad = send(client, REJECTED, max_attempts=1)
    failed = client.send(bad.session_id, CANARY, lane="bulk", metadata=REJECTED)
    for turn in turns:
        turn.result(timeout=WAIT)
    with pytest.raises(TurnFailed):
        failed.result(timeout=WAIT)
    for turn in (*turns, failed):
        until(partial(tasks, system, str(turn.id)))
        (found,) = tasks(system, str(turn.id)).values()
        assert (found["name"], found["state"]) == ("turnmill.run_bulk", "SUCCESS")
    assert f"1 failed: {failed.id} invalid_prompt; " in found["result"]


def test_the_tasks_that_ran_turns_of_a_batch_are_found_by_its_id(
    client: Client, system: System, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(3 * f"{json.dumps({'user_id': 'ada', 'text': CANARY})}\n")
    batch = client.batches.create(path)
    batch.wait(timeout=WAIT)
    until(partial(tasks, system, str(batch.id)))
    found = tasks(system, str(batch.id)).values()
    assert {task["name"] for task in found} == {"turnmill.run_bulk"}
    shown = " ".join(task["result"] for task in found)
    assert all(str(one.turn_id) in shown for one in batch.iter_results())


def test_the_tab_shows_turns_as_the_role_that_sees_no_content_and_its_page_is_linked(
    client: Client, system: System
) -> None:
    turn = send(client, REJECTED)
    with pytest.raises(TurnFailed):
        turn.result(timeout=WAIT)
    until(lambda: state_of(system, turn.id) == "FAILURE")
    assert f"/turnmill/turn/{turn.id}" in page(system.flower_url, f"/task/{turn.id}")
    for path in ("/turnmill", f"/turnmill/turn/{turn.id}", f"/turnmill/session/{turn.session_id}"):
        shown = page(system.flower_url, path)
        assert "invalid_prompt" in shown and CANARY not in shown, path
    with psycopg.connect(system.database_url) as conn:
        roles = conn.execute("SELECT DISTINCT usename FROM pg_stat_activity").fetchall()
    assert ("turnmill_viewer",) in roles

    def told() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(page(system.flower_url, "/turnmill/api/overview"))
        return found

    until(lambda: (told()["workers"]["value"] or [{}])[0].get("slots") == 200)
    (worker,) = told()["workers"]["value"]
    assert (worker["providers"], "openai" in worker["keyless"]) == (["mock"], True)


def test_no_page_of_flower_has_a_word_of_users_or_providers(client: Client, system: System) -> None:
    turn = send(client, REJECTED)
    with pytest.raises(TurnFailed):
        turn.result(timeout=WAIT)
    until(lambda: state_of(system, turn.id) == "FAILURE")
    for path in (
        *("/tasks", "/workers", "/broker", "/api/workers", "/metrics", "/api/tasks?limit=1000"),
        *(f"/task/{turn.id}", f"/api/task/info/{turn.id}"),
    ):
        assert CANARY not in page(system.flower_url, path), path
    assert CANARY not in logs(system.home)
