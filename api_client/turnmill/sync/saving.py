# Made from aio/saving.py by `make sync`: change that.
"""Attachments written to files of a caller's own."""

from os import PathLike

from turnmill.executor.thread import Executor, aside
from turnmill.named_file import NamedFile
from turnmill.sync.attachments import Attachments
from turnmill.verbs.batch_files.sources import path_of


def saved(executor: Executor, attachment_id: str, path: "str | PathLike[str]") -> None:
    """Write an attachment to a file, whole or not at all; see `NamedFile`."""
    file = aside(NamedFile, path_of(path), binary=True)
    try:
        for piece in Attachments(executor).open(attachment_id):
            aside(file.bytes.write, piece)
        aside(file.finish)
    finally:
        aside(file.close)
