"""What a log shows of texts that others wrote: never as a line of ours."""

import logging
import re
from typing import Any

#: C0, DEL, C1, Unicode's line ends, what turns the direction of a line, and lone surrogates.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_MOST_CHARACTERS = 8_000
_TRACEBACK_LINES = 200
#: Before every line of a traceback: a line of a log begins with its time.
_INDENT = "  | "

_formatter = logging.Formatter()


class OneLine(logging.Filter):
    """Shows control characters by their numbers; the lines of a traceback are indented.

    A message in a queue, a header or a name may hold line ends and whole lines that look like ours.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, with a text that is one line and bounded."""
        record.msg, record.args = _shown(_message_of(record)), None
        if record.exc_info or record.exc_text:
            record.exc_text = _indented(record.exc_text or _traceback_of(record.exc_info))
        if record.stack_info:
            record.stack_info = _indented(record.stack_info)
        return True


def guard(logger: logging.Logger) -> None:
    """Let all that the logger's handlers write be so."""
    for handler in logger.handlers:
        if not any(isinstance(one, OneLine) for one in handler.filters):
            handler.addFilter(OneLine())


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - a text that cannot be made is no reason to lose it
        return f"{record.msg!r} ({type(error).__name__})"


def _traceback_of(found: Any) -> str:
    return _formatter.formatException(found) if isinstance(found, tuple) else ""


def _shown(text: str) -> str:
    left_out = len(text) - _MOST_CHARACTERS
    shown = _CONTROLS.sub(_number, text[:_MOST_CHARACTERS])
    return shown if left_out <= 0 else f"{shown} ({left_out} more characters)"


def _indented(text: str) -> str:
    lines = text.split("\n")
    kept = lines if len(lines) <= _TRACEBACK_LINES else ["…", *lines[-_TRACEBACK_LINES:]]
    return "\n".join(_INDENT + _shown(line.removeprefix(_INDENT)) for line in kept)


def _number(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
