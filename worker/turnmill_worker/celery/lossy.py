"""Words that cannot be written are lost, and no program ends for want of a log."""

import sys
from contextlib import suppress
from io import RawIOBase, TextIOWrapper
from typing import Any

_NAMES = ("stdout", "stderr")


class Lossy(TextIOWrapper):
    """Writes what its file takes: a full disk, or a pipe that nobody reads, is no error of ours."""

    def write(self, text: str, /) -> int:
        """Write the text, or lose it."""
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is left, or lose it."""
        with suppress(OSError):
            super().flush()


def lose_what_cannot_be_written() -> None:
    """Let a program that has begun go on whatever becomes of its stdout and stderr.

    Celery prints a banner before it starts, and plugins print what they like in the midst of a
    turn; the handlers of logging lose lines by themselves. Streams of somebody else's stay.
    """
    for name in _NAMES:
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue
        with suppress(OSError):
            stream.flush()
        lossy = _over(stream)
        setattr(sys, name, lossy)
        setattr(sys, f"__{name}__", lossy)


def _over(stream: TextIOWrapper) -> Lossy:
    # A file of its own on the same descriptor: whoever holds the old one may go on with it.
    buffering = 0 if isinstance(stream.buffer, RawIOBase) else -1  # PYTHONUNBUFFERED
    file: Any = open(  # noqa: SIM115 - as long as the process
        stream.fileno(), "wb", buffering=buffering, closefd=False
    )
    return Lossy(
        file,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
