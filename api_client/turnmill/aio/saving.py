"""Attachments written to files of a caller's own."""

from os import PathLike
from pathlib import Path
from typing import IO

from turnmill.aio.attachments import AsyncAttachments
from turnmill.executor.task import AsyncExecutor, async_aside


async def async_saved(
    executor: AsyncExecutor, attachment_id: str, path: "str | PathLike[str]"
) -> None:
    """Write an attachment to a file, whole or not at all: in the place of what is there."""
    target = Path(path)
    beside = target.with_name(f".{target.name}.{attachment_id}.part")
    try:
        file: IO[bytes] = await async_aside(beside.open, "wb")
        with file:
            async for piece in AsyncAttachments(executor).open(attachment_id):
                await async_aside(file.write, piece)
        await async_aside(beside.replace, target)
    finally:
        await async_aside(beside.unlink, missing_ok=True)
