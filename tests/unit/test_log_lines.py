"""Whatever somebody else wrote, a line of the log that looks like ours is ours."""

import io
import logging

import pytest

from turnmill_worker.celery.logs import guard

FORGED = "[2026-01-01 00:00:00,000 CRITICAL turnmill] forged"
#: What a terminal, an editor or a reader of logs takes for the end of a line, or obeys.
ODD = [
    "\n",
    "\r\n",
    "\r",
    "\v",
    "\f",
    "\x1c",
    "\x85",
    "\u2028",
    "\u2029",
    "\x1b[2J",
    "\u202e",
    "\0",
]


@pytest.fixture
def log() -> tuple[logging.Logger, io.StringIO]:
    written = io.StringIO()
    logger = logging.getLogger("theirs")
    logger.handlers.clear()
    logger.propagate = False
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("[ours] %(message)s"))
    logger.addHandler(handler)
    guard(logger)
    guard(logger)  # twice is once
    return logger, written


def lines(written: io.StringIO) -> list[str]:
    return written.getvalue().splitlines()  # by every line end that Unicode knows


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_what_ends_a_line_elsewhere_does_not_end_one_of_the_log(
    log: tuple[logging.Logger, io.StringIO], odd: str
) -> None:
    logger, written = log
    logger.warning("unknown: %s", f"x{odd}{FORGED}")
    said = f"unknown: x{odd}{FORGED}"
    logger.warning(said)
    assert [line.startswith("[ours] unknown: x\\") for line in lines(written)] == [True, True]
    assert odd not in written.getvalue().replace("\n", "", 2) or odd == "\n"


def test_lines_of_a_traceback_are_told_from_others(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, written = log
    try:
        raise ValueError(f"x\n{FORGED}\r{FORGED}")
    except ValueError:
        logger.exception("failed")
    first, *rest = lines(written)
    assert first == "[ours] failed"
    assert any(FORGED in line for line in rest)
    assert [line for line in rest if not line.startswith("  | ")] == []


def test_a_long_text_is_cut_and_one_that_cannot_be_made_is_no_error(
    log: tuple[logging.Logger, io.StringIO], capsys: pytest.CaptureFixture[str]
) -> None:
    logger, written = log
    logger.error("x" * 1_000_000)
    logger.error("%d is a number", "this")
    long, odd = lines(written)
    assert len(long) < 10_000 and long.endswith("(992000 more characters)")
    assert odd == "[ours] '%d is a number' (TypeError)"
    assert capsys.readouterr().err == ""


def test_a_lone_surrogate_does_not_break_the_stream(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, written = log
    logger.error("x\ud800")
    assert written.getvalue().encode() == b"[ours] x\\ud800\n"
