"""`turnmill analytics report` and `alerts`: files that are whole, and columns that stay."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from pyarrow import parquet

from tests import rows
from tests.folded import fold_all
from turnmill.cli import cli
from turnmill.domain.analytics.alert_bounds import Rule
from turnmill.domain.analytics.alerting import Judged, RuleVerdict
from turnmill.domain.errors import InvalidSetting
from turnmill.show.report.line_files import COLUMNS
from turnmill.store.analytics import alerts
from turnmill.store.database import Database
from turnmill.store.schema import migrate

#: Programs of others read these, by name and by place.
STAY = (
    "since,provider,model,tier,lane,tag,turns,succeeded,failed,dead,cancelled,expired,attempts,retries,"
    "steps,input_tokens,output_tokens,cached_tokens,cache_write_tokens,cost_usd,waste_usd,unpriced_attempts"
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'figures.db'}"
    migrate.upgrade(url)
    monkeypatch.setenv("TURNMILL_DATABASE_URL", url)
    monkeypatch.setenv("TURNMILL_HOME", str(tmp_path / "home"))
    database = Database(url)
    for model in ("large", "=cmd()"):
        rows.run(database, rows.send(database, rows.start(database, model=model)))
    fold_all(database)
    yield database
    database.close()


def turnmill(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.exception is None, done.exception
    return done.return_value or 0, done.output


def test_a_report_goes_into_files(store: Database, tmp_path: Path) -> None:
    page, lines, table = (tmp_path / name for name in ("r.html", "r.csv", "r.parquet"))
    code, said = turnmill(
        *("analytics", "report", "--since", "24h", "--html", str(page)),
        *("--csv", str(lines), "--parquet", str(table)),
    )
    assert (code, said) == (0, "")
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert page.stat().st_mode & 0o077 == 0  # its owner's alone
    with lines.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert ",".join(found[0]) == STAY == ",".join(COLUMNS)
    assert {one["model"] for one in found} == {"large", "'=cmd()"}
    assert all(one["cost_usd"] == "0.2500000000" for one in found)
    read = parquet.read_table(table)
    assert ",".join(read.column_names) == STAY
    assert sum(read.column("turns").to_pylist()) == 2


def test_a_report_is_json_or_a_few_lines(store: Database) -> None:
    _, said = turnmill("analytics", "report", "--since", "7d", "--json")
    data = json.loads(said)
    assert (data["version"], data["now"]["turns"], data["now"]["cost_usd"]) == (
        1,
        2,
        "0.5000000000",
    )
    assert data["grain"] == "day" and len(data["points"]) in (7, 8)
    _, said = turnmill("analytics", "report", "--since", "24h", "--zone", "Asia/Kathmandu")
    assert "large" in said and "Asia/Kathmandu" in said


def test_alerts_are_shown_and_told_by_the_exit_code(store: Database) -> None:
    assert turnmill("analytics", "alerts") == (0, "no alert is open\n")
    one = Judged(
        rule=Rule.CACHE,
        subject="mock/large",
        verdict=RuleVerdict.BAD,
        value=0.1,
        usual=0.6,
        bound=0.3,
    )
    with store.begin() as conn:
        alerts.look(conn, [one])
    code, said = turnmill("analytics", "alerts", "--json")
    assert code == 1
    assert json.loads(said)["what"] == (
        "10.0 % of the input of mock/large came from a cache; 60.0 % is usual"
    )
    assert "mock/large" in turnmill("analytics", "alerts", "--since", "7d")[1]


def test_an_alert_is_one_line_and_wide_says_all_of_it(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = [
        Judged(rule=rule, subject=subject, verdict=RuleVerdict.BAD, value=0.1, usual=0.6, bound=0.3)
        for rule, subject in (
            (Rule.CACHE, "openai/gpt-5-mini-2026-08-07-with-a-tail-that-is-long-too"),
            (Rule.QUEUE, "interactive"),
        )
    ]
    with store.begin() as conn:
        alerts.look(conn, judged)
    monkeypatch.setenv("COLUMNS", "80")
    code, said = turnmill("analytics", "alerts")
    head, *lines = said.splitlines()
    assert (code, len(lines)) == (1, 2)
    assert all(len(line) <= 80 for line in lines)
    assert "what" in head
    # A sentence of the usual length is whole: it says its rule.
    assert "a turn of the lane interactive has been due for 0 s" in said
    wide = turnmill("analytics", "alerts", "--wide")[1]
    assert "rule" in wide
    assert "with-a-tail-that-is-long-too came from a cache; 60.0 % is usual" in wide
    assert [json.loads(one)["rule"] for one in _lines_of("--json")] == [
        one.split()[0] for one in wide.splitlines()[1:]
    ]
    assert "maybe more: --limit 1000" in turnmill("analytics", "alerts", "--limit", "1")[1]


def _lines_of(*options: str) -> list[str]:
    return turnmill("analytics", "alerts", *options)[1].splitlines()


def test_whose_days_these_are_is_said_of_a_whole_report(store: Database) -> None:
    _, said = turnmill("analytics", "report", "--zone", "Asia/Kathmandu")
    assert "Asia/Kathmandu" in said


def test_a_job_that_is_run_by_hand_heeds_what_workers_heed(
    store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "weekly"
    monkeypatch.setenv("TURNMILL_REPORT_FOLDER", str(folder))
    assert turnmill("upkeep", "run", "make-report")[1] == "make-report: 1 reports\n"
    assert {one.suffix for one in folder.iterdir()} == {".html", ".json"}
    monkeypatch.setenv("TURNMILL_ALERTS", "cost=maybe")
    done = CliRunner().invoke(cli, ("upkeep", "run", "look-for-alerts"), standalone_mode=False)
    assert isinstance(done.exception, InvalidSetting)
