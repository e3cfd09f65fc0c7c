"""The files that the mock was shown: it reads them all, and says their types and sizes."""

from collections.abc import Iterator

from turnmill.domain.content import Attached, Image
from turnmill.domain.errors import Rejected
from turnmill_worker.providers.files import attached_in
from turnmill_worker.providers.port import Request


def files_in(request: Request) -> str:
    """Return what the files of this turn are: `image/png of 70 bytes, 1x1; …`."""
    return "; ".join(_words(part) for part in _said_now(request))


async def read_all(request: Request) -> None:
    """Read the files of this turn as a vendor would; raises Rejected where one is not as it says.

    In pieces, and never held whole.
    """
    for part in _said_now(request):
        if request.files is None:
            raise Rejected("attachment_unknown", hint="this process has no files")
        size = 0
        async for piece in request.files.chunks(part):
            size += len(piece)
        if size != part.size:
            raise Rejected("attachment_changed", hint="its bytes are not those that were kept")


def _said_now(request: Request) -> Iterator[Attached]:
    return (part for one in request.messages for part in attached_in(one))


def _words(part: Attached) -> str:
    pixels = f", {part.width}x{part.height}" if isinstance(part, Image) and part.width else ""
    return f"{part.media_type or part.kind} of {part.size} bytes{pixels}"
