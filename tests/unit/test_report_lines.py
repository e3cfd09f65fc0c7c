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


@pytest.mark.parametrize("sign", [*"=+-@", *"\uff1d\uff0b\uff0d\uff20"])
@pytest.mark.parametrize("between", [";", "\t", "\n", "\r\n", '; "', ";;\t"])
def test_a_name_is_no_formula_where_other_signs_separate_cells(
    tmp_path: Path, between: str, sign: str
) -> None:
    """As programs read it that separate by semicolons or tabs, in much of Europe without asking."""
    path = tmp_path / "lines.csv"
    write_csv(path, [a_line(f"x{between}{sign}1+1{between}y;z-1;'=2")])
    with path.open(encoding="utf-8", newline="") as file:
        [line] = csv.DictReader(file)
    assert line["tag"] == f"x{between}'{sign}1+1{between}y;z-1;'=2"
    for separator in ";\t":
        with path.open(encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file, delimiter=separator) for cell in row]
        assert not [cell for cell in cells if cell.lstrip('" ').startswith(sign)]
