"""Partial: what has come of a streamed reply so far."""

import time

from turnmill_worker.providers.port import Emit, Usage


class Partial:
    """The pieces that one call has emitted, up to a bound; what is beyond it is only counted."""

    __slots__ = ("_began", "_kept", "_most", "_pieces", "bytes", "first_token_ms", "usage")

    def __init__(self, *, most: int) -> None:
        """At most so many bytes are kept, of UTF-8."""
        self.bytes = 0  #: that came
        self.first_token_ms: int | None = None  #: from now until something came
        self.usage: Usage | None = None  #: what the vendor had counted by then, where it says
        self._began = time.monotonic()
        self._kept = 0
        self._most = most
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """Return what came first, as far as it was kept."""
        return "".join(self._pieces)

    def count(self, usage: Usage) -> None:
        """Keep what the vendor has counted so far."""
        self.usage = usage

    def keeping(self, emit: Emit | None) -> Emit:
        """Return what keeps each piece, and passes it on where somebody wants it."""

        async def keep(piece: str) -> None:
            self._keep(piece)
            if emit is not None:
                await emit(piece)

        return keep

    def _keep(self, piece: object) -> None:
        if type(piece) is not str:
            return  # a provider may be anybody's: what is no text is judged with its answer
        if piece and self.first_token_ms is None:
            self.first_token_ms = round((time.monotonic() - self._began) * 1000)
        size = len(piece) if piece.isascii() else len(piece.encode(errors="surrogatepass"))
        # What does not fit is the end of it: a text with a hole would be none of the vendor's.
        if self._kept == self.bytes and self._kept + size <= self._most:
            self._kept += size
            self._pieces.append(piece)
        self.bytes += size
