# Made from aio/saving.py by `make sync`: change that.
"""Attachments written to files of a caller's own."""

from os import PathLike
from pathlib import Path

from turnmill.executor.thread import Executor, aside
from turnmill.named_file import NamedFile
from turnmill.sync.attachments import Attachments


def saved(executor: Executor, attachment_id: str, path: "str | PathLike[str]") -> None:
    """Write an attachment to a file, whole or not at all; see `NamedFile`."""
    file = aside(NamedFile, Path(path), binary=True)
    try:
        for piece in Attachments(executor).open(attachment_id):
            aside(file.bytes.write, piece)
        aside(file.finish)
    finally:
        aside(file.close)
