# Made from aio/saving.py by `make sync`: change that.
"""Attachments written to files of a caller's own."""

from os import PathLike
from pathlib import Path
from typing import IO

from turnmill.executor.thread import Executor, aside
from turnmill.sync.attachments import Attachments


def saved(executor: Executor, attachment_id: str, path: "str | PathLike[str]") -> None:
    """Write an attachment to a file, whole or not at all: in the place of what is there."""
    target = Path(path)
    beside = target.with_name(f".{target.name}.{attachment_id}.part")
    try:
        file: IO[bytes] = aside(beside.open, "wb")
        with file:
            for piece in Attachments(executor).open(attachment_id):
                aside(file.write, piece)
        aside(beside.replace, target)
    finally:
        aside(beside.unlink, missing_ok=True)
