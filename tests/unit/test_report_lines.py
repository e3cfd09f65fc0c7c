"""Lines of a report as a table: what a name is, a program that calculates shows."""

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from turnmill.show.report.line_files import write_csv
from turnmill.store.analytics.figures import Dimension, Totals

AT = datetime(2026, 11, 26, tzinfo=UTC)


def a_line(tag: str) -> Totals:
    names = [name for name in Totals.__dataclass_fields__ if name != "by"]
    return Totals(by={Dimension.DAY: AT, Dimension.TAG: tag}, **dict.fromkeys(names, 0))  # type: ignore[arg-type]


@pytest.mark.parametrize("begins", [*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20"])
def test_a_name_that_begins_as_a_formula_is_none(tmp_path: Path, begins: str) -> None:
    path = tmp_path / "lines.csv"
    write_csv(path, [a_line(f"{begins}1+1"), a_line("plain")])
    with path.open(encoding="utf-8", newline="") as file:
        assert [one["tag"] for one in csv.DictReader(file)] == [f"'{begins}1+1", "plain"]
