"""The command line against a running system, in the folder that `turnmill up` was started in."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.screen import Screen
from tests.acceptance.terminal import Terminal, clean_environment
from tests.conftest import make_home
from turnmill import Client, SessionRecord, TurnFailed, TurnState
from turnmill_worker.stack.process import wait_until

CLI = ("-m", "turnmill.cli")
SOON = timedelta(seconds=30)


@pytest.fixture(scope="module")
def there() -> Iterator[Terminal]:
    """A folder in which `turnmill up` runs; nothing else says where the system is."""
    home = make_home()
    up = subprocess.Popen(
        [sys.executable, "-m", "turnmill.cli", "up", "--json", "--concurrency", "50"],
        cwd=home.path,
        env=clean_environment() | {"TURNMILL_LEASE": "5"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert up.stdout is not None
    assert up.stdout.readline(), "`turnmill up` ended before it was ready"
    yield Terminal(home.path, {})
    up.terminate()
    up.communicate(timeout=15)
    home.discard()


@pytest.fixture
def client(there: Terminal) -> Iterator[Client]:
    from turnmill.running_home import settings_of_home

    settings = settings_of_home({"TURNMILL_HOME": str(there.folder / ".turnmill")})
    with Client(settings=settings) as client:
        yield client


def scripted(client: Client, **mock: object) -> SessionRecord:
    """Make a session whose replies the mock scripts."""
    return client.sessions.create(user_id="ada", settings={"mock": mock}, max_attempts=2)


def test_a_message_sent_where_up_runs_is_answered_without_any_setting(there: Terminal) -> None:
    said = there.spawn(*CLI, "send", "Hello", "--user", "ada", "--wait", "--timeout", "30")

    assert (said.code, said.out.strip()) == (0, "Understood. You said: Hello [0 before]")


def test_send_wait_json_prints_one_object_that_tells_everything(there: Terminal) -> None:
    said = there.run("send", "-", "--user", "ada", "--wait", "--json", typed="Hello from a pipe")

    turn = said.json()
    assert said.code == 0
    assert turn["state"] == "succeeded"
    assert "Hello from a pipe" in turn["text"]
    assert turn["usage"]["total_tokens"] > 0
    assert turn["cost_usd"] is None
    assert turn["finish_reason"] == "stop"
    assert set(turn["timing"]) == {"queued_ms", "provider_ms", "total_ms"}
    [attempt] = turn["attempts"]
    assert (attempt["n"], attempt["outcome"], attempt["error_code"]) == (1, "succeeded", None)
    assert {"worker", "started_at", "ended_at", "provider_ms"} <= set(attempt)


def test_a_failed_turn_is_still_one_object_and_exit_code_1(there: Terminal, client: Client) -> None:
    session = scripted(client, faults="rejected")

    said = there.run("send", "Hello", "--session", str(session.id), "--wait", "--json")

    turn = said.json()
    assert said.code == 1
    assert (turn["state"], turn["text"]) == ("failed", None)
    assert turn["error"]["code"] == "invalid_prompt"
    assert "turns show" in turn["error"]["hint"]  # the code is a vendor's own
    assert [attempt["outcome"] for attempt in turn["attempts"]] == ["failed"]


def test_whoever_looks_at_a_failed_turn_is_told_what_to_do_about_it(
    there: Terminal, client: Client
) -> None:
    session = client.sessions.create(user_id="ada", provider="mock", tools=["nowhere"])
    turn = client.send(session, "Hello")
    with pytest.raises(TurnFailed) as failed:
        turn.result(timeout=30)
    assert "TURNMILL_TOOLS" in f"{failed.value.hint}"
    shown = " ".join(there.run("turns", "show", str(turn.id)).out.split())
    assert f"unknown_tool: {failed.value.hint}" in shown


def test_a_timeout_is_exit_code_4_and_the_turn_goes_on(there: Terminal, client: Client) -> None:
    session = scripted(client, latency=600)

    said = there.run(
        "send", "Hello", "--session", str(session.id), "--wait", "--timeout", "0.2", "--json"
    )

    turn = said.json()
    assert said.code == 4
    assert turn["state"] in {"queued", "running"}
    assert there.run("turns", "cancel", turn["id"]).code == 0
    assert wait_until(
        lambda: client.turns.get(turn["id"]).state is TurnState.CANCELLED, timeout=SOON
    )


def test_an_idempotency_key_sends_once(there: Terminal, client: Client) -> None:
    session = str(client.sessions.create(user_id="ada").id)
    command = ("send", "Hello", "--session", session, "--idempotency-key", "ticket-1", "--json")

    first, second = there.run(*command).json(), there.run(*command).json()

    assert first["id"] == second["id"]
    assert (first["created"], second["created"]) == (True, False)


def test_a_chat_from_a_pipe_is_answered_line_by_line_with_its_history(there: Terminal) -> None:
    typed = "one\n\ntwo\n/history\n/quit\nthree\n"
    said = there.spawn(*CLI, "chat", "--user", "ada", typed=typed)

    assert said.code == 0
    assert [line.partition("said: ")[2] for line in said.out.splitlines()] == [
        "one [0 before]",
        "two [2 before]",
    ]
    assert said.err.count("user: ") == 2
    assert "chat --session" in said.err


@pytest.mark.long
def test_a_chat_on_a_terminal_says_what_it_waits_for_until_the_reply_comes(
    there: Terminal, client: Client
) -> None:
    session = client.sessions.create(user_id="ada", key="held-up")
    client.sessions.pause(session)

    with Screen("chat", "--session", "held-up", folder=there.folder) as screen:
        screen.until("you>")
        screen.type("Hello\n")
        held = screen.until("waits: its session is paused: turnmill sessions resume")
        client.sessions.resume(session)
        answered = screen.until("at the provider")
        screen.type("/quit\n")

    assert held.index("you> Hello") < held.index("waits: ")
    lines = answered[answered.index("you> ") :].splitlines()
    assert lines[:2] == ["you> Hello", "Understood. You said: Hello [0 before]"]
    assert "waits" not in answered


def test_turns_show_tells_what_happened_attempt_by_attempt(there: Terminal, client: Client) -> None:
    session = scripted(client, faults=["rate_limited", "overloaded"])
    turn = client.send(session, "a secret")
    assert wait_until(lambda: turn.refresh().state is TurnState.DEAD, timeout=SOON)

    said = there.run("turns", "show", str(turn.id))

    assert said.code == 0
    assert "dead, 2 of 2 attempts spent: overloaded" in said.out
    attempts = [line.split() for line in said.out.splitlines() if line[:1].isdigit()]
    assert [line[0] for line in attempts] == ["1", "2"]
    assert ["rate_limited" in line for line in attempts] == [True, False]
    assert f"turnmill turns retry {turn.id}" in said.out
    assert "a secret" not in said.out
    assert "a secret" in there.run("turns", "show", str(turn.id), "--text").out


def test_turns_show_names_who_holds_a_running_turn_and_whom_the_next_one_waits_for(
    there: Terminal, client: Client
) -> None:
    session = scripted(client, latency=600)
    first, second = client.send(session, "one"), client.send(session, "two")
    assert wait_until(lambda: first.refresh().state is TurnState.RUNNING, timeout=SOON)

    held = there.run("turns", "show", str(first.id)).out
    behind = there.run("turns", "show", str(second.id), "--json").json()

    assert f"by {first.record.lease_owner}, lease until" in held
    line = f"for turn {first.id} before it: turnmill turns show {first.id}"
    assert behind["waits_for"] == [line]
    assert there.run("turns", "why", str(second.id)).out.startswith(f"{line}; ")
    why = there.run("turns", "why", str(second.id), "--json").json()
    assert [one["cause"] for one in why["reasons"]] == ["behind", "running"]
    assert there.run("turns", "cancel", str(first.id), str(second.id)).code == 0


def test_dead_turns_are_run_again_by_filter_and_only_those(there: Terminal, client: Client) -> None:
    dying = scripted(client, faults=["overloaded", "overloaded"])
    refused = scripted(client, faults="rejected")
    turns = [client.send(dying, "one"), client.send(refused, "two")]
    assert wait_until(
        lambda: all(turn.refresh().record.finished_at for turn in turns), timeout=SOON
    )

    said = there.run(
        "turns", "retry", "--all", "--state", "dead", "--error-code", "overloaded",
        "--session", str(dying.id), "--json",
    )  # fmt: skip

    assert said.lines() == [{"id": str(turns[0].id), "turn_id": str(turns[0].id), "in_place": True}]
    assert wait_until(lambda: turns[0].refresh().state is TurnState.DEAD, timeout=SOON)
    assert turns[1].refresh().state is TurnState.FAILED


@pytest.mark.long
def test_a_dead_turn_that_ran_again_as_another_one_is_not_sent_a_second_time(
    there: Terminal, client: Client
) -> None:
    session = client.sessions.create(user_id="ada", max_attempts=1)
    dead = client.send(session, "one", metadata={"mock": {"faults": ["overloaded"]}})
    client.send(session, "two").result(timeout=30)
    assert dead.refresh().state is TurnState.DEAD
    retry = ("turns", "retry", "--all", "--session", str(session.id), "--json")

    [again] = there.run(*retry).lines()
    copy = client.turns.get(again["turn_id"])
    assert wait_until(lambda: copy.refresh().state is TurnState.DEAD, timeout=SOON)
    # The copy alone is retried, in place: nothing came after it.
    assert there.run(*retry).lines() == [
        {"id": str(copy.id), "turn_id": str(copy.id), "in_place": True}
    ]
    assert len(client.turns.list(session=session)) == 3
    for run_again, found in ((True, [dead.id]), (False, [copy.id])):
        listed = client.turns.list(session=session, run_again=run_again)
        assert [one.id for one in listed if one.refresh().state is not TurnState.SUCCEEDED] == found


def test_what_one_turn_refuses_does_not_keep_the_others_and_is_exit_code_5(
    there: Terminal, client: Client
) -> None:
    done = client.send(client.sessions.create(user_id="ada"), "Hello")
    done.result(timeout=30)
    waiting = client.send(scripted(client, latency=600), "Hello")

    said = there.run("turns", "cancel", str(done.id), str(waiting.id))

    assert said.code == 5
    assert "a turn that is succeeded cannot be cancelled" in said.err


def test_a_paused_lane_runs_nothing_until_it_is_resumed(there: Terminal, client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    paused = there.run("queue", "pause", "--lane", "bulk", "--json").json()
    # Workers know within about a second.
    later = datetime.now(UTC) + timedelta(seconds=4)
    turn = client.send(session, "Hello", lane="bulk", deliver_at=later)

    shown = there.run("turns", "show", str(turn.id), "--json").json()

    try:
        assert paused["paused_lanes"] == ["bulk"]
        assert shown["waits_for"][0] == "lane bulk is paused: turnmill queue resume --lane bulk"
        assert wait_until(lambda: due_in_bulk(there) == 1, timeout=SOON)
    finally:
        assert there.run("queue", "resume", "--lane", "bulk").code == 0
    assert turn.result(timeout=30).text


def due_in_bulk(there: Terminal) -> int:
    lanes = there.run("queue", "ls", "--json").json()["lanes"]
    return sum(lane["due"] for lane in lanes if lane["lane"] == "bulk")


def wrong_but_for_dead_turns(found: Any) -> list[Any]:
    """Return what is wrong with the system; other tests of it have left turns that died."""
    wrong = [one for one in found["findings"] if one["level"] == "wrong"]
    return [one for one in wrong if one["check"] != "failures"]


def test_doctor_finds_nothing_wrong_in_a_system_that_runs(there: Terminal) -> None:
    said = there.run("doctor", "--json")

    found = said.json()
    assert wrong_but_for_dead_turns(found) == [], said.out
    by_check = {finding["check"]: finding for finding in found["findings"]}
    assert by_check["workers"]["what"].startswith("1 worker: worker1@")
    assert by_check["invariants"]["level"] == "ok"
    assert "asks for a login" in by_check["flower"]["what"]


def test_doctor_finds_a_missing_key_before_the_first_turn(there: Terminal, client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="openai", model="gpt-5-mini")

    said = there.run("doctor", "--json")
    client.sessions.delete(session)

    wrong = wrong_but_for_dead_turns(said.json())
    assert said.code == 10
    assert [one["check"] for one in wrong] == ["providers"]
    assert wrong[0]["what"] == "openai: 1 session, and OPENAI_API_KEY is not set at any worker"


def test_the_note_of_a_killed_up_leads_nobody_to_a_dead_system(
    there: Terminal, tmp_path: Path
) -> None:
    noted = (there.folder / ".turnmill" / "ready.json").read_text()
    with subprocess.Popen(["true"]) as gone:
        pass
    stale = tmp_path / ".turnmill"
    stale.mkdir()
    (stale / "ready.json").write_text(
        noted.replace(f'"pid": {_pid_in(noted)}', f'"pid": {gone.pid}')
    )

    said = Terminal(tmp_path, {}).run("sessions", "ls")

    assert said.code == 1
    assert "no database URL is set" in said.err


def test_who_reads_only_the_first_line_gets_no_traceback(there: Terminal) -> None:
    command = f"{sys.executable} -m turnmill.cli turns ls --limit 1000 --json | head -n 0"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=there.folder,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert os.waitstatus_to_exitcode(done.returncode) == 0


def _pid_in(noted: str) -> int:
    import json

    return int(json.loads(noted)["pid"])
