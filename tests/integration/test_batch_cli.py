"""`turnmill batch` and `turnmill analytics`: output for programs, and exit codes that tell."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests import rows, steps
from tests.batch_clients import batches_of
from tests.budgeting import bound
from turnmill.cli import waiting
from turnmill.cli.commands.analytics import command as analytics
from turnmill.cli.commands.batch import command as batch
from turnmill.domain.errors import BatchNotFound, BatchTimeout, InvalidBatchFile, InvalidBill
from turnmill.domain.states import TurnState
from turnmill.store.database import Database
from turnmill.store.nouns import batch_feeding

Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("TURNMILL_DATABASE_URL", database_url)
    monkeypatch.setenv("TURNMILL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TURNMILL_BROKER_URL", raising=False)

    def invoke(*arguments: str) -> Result:
        command = analytics if arguments[0] == "analytics" else batch
        return CliRunner().invoke(command, arguments[1:], standalone_mode=False)

    return invoke


@pytest.fixture
def jobs_file(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.jsonl"
    lines = [{"custom_id": f"{n}", "user_id": "ada", "text": f"message {n}"} for n in range(3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def settle_all(store: Database, *states: TurnState) -> None:
    (found,) = batches_of(store).list()
    for result, state in zip(found.iter_results(), states, strict=True):
        assert result.turn_id is not None
        rows.run(store, result.turn_id, state)


def line_of(result: Result) -> Mapping[str, Any]:
    assert result.exception is None, result.exception
    found: Mapping[str, Any] = json.loads(result.stdout)
    return found


def test_submit_prints_one_line_that_names_the_batch(run: Run, jobs_file: Path) -> None:
    line = line_of(run("batch", "submit", str(jobs_file), "--name", "nightly", "--json"))
    assert (line["name"], line["total"], line["done"]) == ("nightly", 3, False)
    assert line["states"] == {"queued": 3}
    again = line_of(run("batch", "submit", str(jobs_file), "--name", "nightly", "--json"))
    assert again == line


def test_submit_for_people_names_the_next_command(run: Run, jobs_file: Path) -> None:
    result = run("batch", "submit", str(jobs_file))
    assert "3 lines: 3 queued" in result.stdout
    assert "batch watch" in result.stderr


def test_a_bad_file_is_an_error_that_names_the_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"user_id": "ada"}\n')
    result = run("batch", "submit", str(path))
    assert isinstance(result.exception, InvalidBatchFile)
    assert "line 1: missing_required_parameter: needs text" in result.stderr


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (["succeeded", "succeeded", "succeeded"], 0),
        (["failed", "dead", "failed"], 1),
        (["succeeded", "dead", "succeeded"], 5),
    ],
)
def test_exit_codes_tell_how_a_batch_ended(
    run: Run, store: Database, jobs_file: Path, states: list[str], code: int
) -> None:
    run("batch", "submit", str(jobs_file), "--name", "b")
    assert run("batch", "status", "b").return_value == 4
    assert run("batch", "results", "b").return_value == 4
    settle_all(store, *(TurnState(state) for state in states))
    assert run("batch", "status", "b").return_value == code
    assert run("batch", "watch", "b").return_value == code
    assert run("batch", "results", "b").return_value == code


def test_watching_gives_up_in_time(run: Run, jobs_file: Path) -> None:
    run("batch", "submit", str(jobs_file), "--name", "b")
    result = run("batch", "watch", "b", "--timeout", "0.01")
    assert isinstance(result.exception, BatchTimeout)


def test_results_go_to_stdout_or_into_a_file(
    run: Run, store: Database, jobs_file: Path, tmp_path: Path
) -> None:
    run("batch", "submit", str(jobs_file), "--name", "b")
    settle_all(store, TurnState.SUCCEEDED, TurnState.FAILED, TurnState.SUCCEEDED)
    out = tmp_path / "out.jsonl"
    printed = run("batch", "results", "b").stdout
    assert run("batch", "results", "b", "-o", str(out)).stdout == ""
    lines = [json.loads(line) for line in printed.splitlines()]
    assert lines == [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["custom_id"], line["text"]) for line in lines] == [
        ("0", "yes"),
        ("1", None),
        ("2", "yes"),
    ]


def test_failed_turns_run_again_and_the_rest_is_cancelled(
    run: Run, store: Database, jobs_file: Path
) -> None:
    run("batch", "submit", str(jobs_file), "--name", "b")
    settle_all(store, TurnState.SUCCEEDED, TurnState.FAILED, TurnState.DEAD)
    assert line_of(run("batch", "retry-failed", "b", "--json"))["retried"] == 2
    assert line_of(run("batch", "cancel", "b", "--yes", "--json"))["cancelled"] == 2
    states = line_of(run("batch", "status", "b", "--json"))["states"]
    assert states == {"succeeded": 1, "cancelled": 2}


def test_cancelling_says_how_many_lines_come_to_nothing_though_none_was_a_turn_yet(
    run: Run, jobs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})
    run("batch", "submit", str(jobs_file), "--name", "b")
    assert "3 lines cancelled" in run("batch", "cancel", "b", "--yes").stdout


def test_batches_are_listed_newest_first(run: Run, jobs_file: Path) -> None:
    for name in ("one", "two"):
        run("batch", "submit", str(jobs_file), "--name", name)
    names = [json.loads(line)["name"] for line in run("batch", "ls", "--json").stdout.splitlines()]
    assert names == ["two", "one"]


def test_a_list_says_how_many_lines_wait_for_a_budget(
    run: Run, jobs_file: Path, store: Database
) -> None:
    run("batch", "submit", str(jobs_file), "--name", "b")
    bound(store, "1")
    for result in batches_of(store).get("b").iter_results():
        assert result.turn_id is not None
        for claim in steps.take(store, result.turn_id):
            wait = {"waits_for": "budget", "delay": timedelta(minutes=1)}
            steps.end(store, claim, TurnState.QUEUED, **wait)
    assert "running, 3 await budget" in run("batch", "ls").stdout
    assert line_of(run("batch", "ls", "--json"))["waiting_for_budget"] == 3


def test_an_unknown_batch_is_not_found(run: Run) -> None:
    assert isinstance(run("batch", "status", "nobody").exception, BatchNotFound)


def test_a_report_counts_what_ended_until_now(run: Run, store: Database) -> None:
    session = rows.start(store)
    rows.run(store, rows.send(store, session))
    rows.run(store, rows.send(store, session), TurnState.FAILED, cost=None)
    found = line_of(run("analytics", "report", "--json"))
    (line,) = found["lines"]
    assert (line["turns"], line["succeeded"], line["failed"]) == (2, 1, 1)
    assert (line["cost_usd"], line["unpriced_attempts"]) == ("0.2500000000", 1)
    shown = run("analytics", "report", "--by", "model")
    assert "0.2500+" in shown.stdout
    assert "no known price" in shown.stderr


def test_a_report_without_refresh_shows_what_beat_has_counted(run: Run, store: Database) -> None:
    rows.run(store, rows.send(store, rows.start(store)))
    assert line_of(run("analytics", "report", "--no-refresh", "--json"))["lines"] == []
    assert "no turn ended" in run("analytics", "report", "--no-refresh").stderr


def test_a_bill_that_differs_is_a_failure__and_one_that_does_not_is_none(
    run: Run, store: Database, tmp_path: Path
) -> None:
    rows.run(store, rows.send(store, rows.start(store)), model="mock")
    today, bill = datetime.now(UTC).date(), tmp_path / "bill.csv"
    for cost, code in (("0.25", 0), ("0.75", 1)):
        bill.write_text(f"date,model,cost_usd\n{today},mock,{cost}\n")
        said = run("analytics", "reconcile", str(bill), "--provider", "mock", "--json")
        assert said.return_value == code
        (line,) = line_of(said)["lines"]
        assert (line["agrees"], line["bill"]["cost_usd"]) == (code == 0, cost)
    shown = run("analytics", "reconcile", str(bill), "--provider", "mock")
    assert "1 of 1 lines differ" in shown.stdout
    assert isinstance(run("analytics", "reconcile", "none.csv").exception, InvalidBill)


def test_what_is_priced_anew_says_what_it_could_not_reach_by_its_code(
    run: Run, store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.run(store, rows.send(store, rows.start(store)), model="mock", cost=None)
    today = str(datetime.now(UTC).date())
    said = run("analytics", "reprice", "--since", today)
    assert (said.return_value, "1 calls have no known price" in said.stderr) == (5, True)
    prices = tmp_path / "prices.json"
    prices.write_text('{"mock/*": {"call": 2}}')
    monkeypatch.setenv("TURNMILL_PRICES", str(prices))
    for more, cost in (("--dry-run", "0"), ("--json", "0"), ("--json", "2")):
        before = line_of(run("analytics", "report", "--json"))["lines"][0]["cost_usd"]
        assert Decimal(before) == Decimal(cost)
        assert run("analytics", "reprice", "--since", today, more).return_value == 0


def test_who_follows_a_batch_that_is_paused_is_told_once_what_it_waits_for(
    run: Run, store: Database, jobs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_DRAWS_AFTER_S", 0.05)
    run("batch", "submit", str(jobs_file), "--name", "jobs")
    (found,) = batches_of(store).list()
    found.pause()
    ends = Timer(0.6, found.cancel)
    ends.start()
    told = run("batch", "results", "jobs", "--follow").stderr
    ends.join()
    assert told.count(f"batch {found.id} is paused: by hand. turnmill batch resume") == 1
