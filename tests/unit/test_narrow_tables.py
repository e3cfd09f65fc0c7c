"""A table that is to be cut fits, says what it cuts, and goes without what says nothing first."""

from datetime import UTC, datetime
from io import StringIO
from uuid import UUID

import pytest
from rich.cells import cell_len
from rich.console import Console

from turnmill.show.tables import print_table

ID = UUID("01a21631-3001-7416-9e5c-39ce2cbd39f2")
AT = datetime(2026, 11, 27, 19, 21, 1, 412_000, tzinfo=UTC)
COLUMNS = ("id", "who", "what", "at", "empty", "number")


def printed(columns: int, *row: object, spare: tuple[str, ...] = ()) -> list[str]:
    to = StringIO()
    console = Console(file=to, width=columns, force_terminal=True, color_system=None)
    print_table(COLUMNS, [row], right=("number",), spare=spare, cut=True, console=console)
    return to.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize("who", ["ada", "a" * 300, "会話" * 90, "e\u0301" * 180])
@pytest.mark.parametrize("columns", [80, 90, 120, 200])
def test_a_row_is_a_line_and_ids_and_numbers_are_whole(columns: int, who: str) -> None:
    lines = printed(columns, ID, who, "b" * 40, AT, "", 12_345_678)
    assert len(lines) == 2 and max(map(cell_len, lines)) <= columns
    assert "01a21631-3001-7416" in lines[1] and "12345678" in lines[1]
    assert ("…" in lines[1]) is (columns < 120 or cell_len(who) > 90)


def test_times_lose_what_is_behind_their_second_before_a_column_goes() -> None:
    full = printed(200, ID, "ada", "read", AT, "", 1)
    assert "2026-11-27 19:21:01.412 UTC" in full[1]
    narrow = printed(80, ID, "ada" * 5, "read", AT, "", 1, spare=("at", "what"))
    assert "2026-11-27 19:21:01  " in narrow[1] and "read" in narrow[1]


def test_a_spare_column_that_says_nothing_goes_first_and_a_long_name_costs_no_other() -> None:
    narrow = printed(76, ID, "a" * 300, "read", AT, "", 1, spare=("empty", "what"))
    assert "empty" not in narrow[0] and "what" in narrow[0]


def test_what_goes_into_a_pipe_is_whole() -> None:
    [_, row] = printed(10_000, ID, "a" * 9_000, "b" * 900, AT, "", 1)
    assert "a" * 9_000 in row and "b" * 900 in row and "UTC" in row
