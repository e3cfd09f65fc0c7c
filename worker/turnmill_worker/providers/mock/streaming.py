"""The reply of the mock in pieces, at the pace that its script asks for."""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from turnmill.domain.errors import MaybeSent
from turnmill_worker.providers.mock.script import Script
from turnmill_worker.providers.parameters import timeout_of
from turnmill_worker.providers.port import Done, Emit, Request, Running

_WORDS = re.compile(r"(?<=\s)(?=\S)")


async def say(text: str, script: Script, emit: Emit | None) -> None:
    """Give the text to `emit` as far as the fault lets it, and take the time that it takes."""
    if emit is None and script.tokens_per_second is None:
        return
    pieces = _pieces_of(text, script)[: script.after]
    if emit is None:
        await asyncio.sleep(_seconds(len(pieces), script))
        return
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for n, piece in enumerate(pieces, 1):
        if script.tokens_per_second is not None:
            # From the beginning, and not from piece to piece: what came late does not add up.
            await asyncio.sleep(max(0.0, begun + _seconds(n, script) - loop.time()))
        await emit(piece)


def seconds_to_say(text: str, script: Script) -> float:
    """Return how long the whole text takes."""
    if script.tokens_per_second is None:
        return 0.0
    return _seconds(len(_pieces_of(text, script)), script)


def _seconds(pieces: int, script: Script) -> float:
    return pieces / (script.tokens_per_second or math.inf)


def _pieces_of(text: str, script: Script) -> Sequence[str]:
    """Return what comes one after another: the chunks where they are the text, or else its words.

    A word keeps the space behind it; joined, the pieces are the text.
    """
    if script.chunks and "".join(script.chunks) == text:
        return script.chunks
    return _WORDS.split(text) if text else ()


async def in_time(
    request: Request, answering: Callable[[], Awaitable[Done | Running]]
) -> Done | Running:
    """Answer, or break off after the session's `timeout`, as vendors' clients do."""
    if request.settings.get("timeout") is None:
        return await answering()
    within = timeout_of(request.settings, default=timedelta(0))
    try:
        async with asyncio.timeout(within.total_seconds()):
            return await answering()
    except TimeoutError:
        raise MaybeSent("timeout") from None
