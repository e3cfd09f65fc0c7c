"""Attachments written to files of a caller's own."""

from os import PathLike

from turnmill.aio.attachments import AsyncAttachments
from turnmill.executor.task import AsyncExecutor, async_aside
from turnmill.named_file import NamedFile
from turnmill.verbs.batch_files.sources import path_of


async def async_saved(
    executor: AsyncExecutor, attachment_id: str, path: "str | PathLike[str]"
) -> None:
    """Write an attachment to a file, whole or not at all; see `NamedFile`."""
    file = await async_aside(NamedFile, path_of(path), binary=True)
    try:
        async for piece in AsyncAttachments(executor).open(attachment_id):
            await async_aside(file.bytes.write, piece)
        await async_aside(file.finish)
    finally:
        await async_aside(file.close)
