"""A body that is sent in pieces: how long it is is known before, and it is never held whole."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from turnmill_worker.http1.failures import WrongLength

#: So much of a piece is handed over at a time: what waits for a slow server is a few of these.
_SLICE = 64 * 1024


class Body:
    """Pieces that together are as long as was said; they are made anew each time it is sent."""

    __slots__ = ("_made", "content_type", "length")

    def __init__(
        self,
        length: int,
        made: Callable[[], AsyncGenerator[bytes, None]],
        *,
        content_type: str = "",
    ) -> None:
        """`made` is called for each time; without a `content_type` it is what all are."""
        self.length = length
        self.content_type = content_type
        self._made = made

    def __repr__(self) -> str:
        return f"Body(<{self.length} bytes>)"  # never what is said

    async def pieces(self) -> AsyncGenerator[bytes | memoryview, None]:
        """Yield it, in slices. Raises WrongLength before the last of it where it is another one.

        A request that lacks a part of its body is executed by nobody.
        """
        left = self.length
        async with aclosing(self._made()) as made:
            async for piece in made:
                left -= len(piece)
                if left < 0:
                    raise WrongLength
                if len(piece) <= _SLICE:
                    yield piece
                    continue
                view = memoryview(piece)
                for start in range(0, len(view), _SLICE):
                    yield view[start : start + _SLICE]
        if left:
            raise WrongLength
