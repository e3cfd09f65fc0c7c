"""Pictures made smaller for a vendor, where a session asks for it: by Pillow, in a thread.

One that fits is sent as it is. What is made lives as long as its request, and is as large as what
the model would be shown anyhow.
"""

import asyncio
import io
from dataclasses import replace
from typing import Any

from turnmill.domain.content import Image
from turnmill.domain.errors import Rejected
from turnmill_worker.providers.attached import sent_in
from turnmill_worker.providers.filling import chunks_of
from turnmill_worker.providers.foreign import name_of
from turnmill_worker.providers.port import MadeSmaller, PictureBounds, Request

#: Pictures of one process that are decoded at the same time.
_AT_ONCE = 2
#: Pixels of a picture that is decoded: four bytes each.
PIXELS_MAX = 100_000_000
_BYTES_MAX = 64 * 2**20
_QUALITIES = (85, 70, 50, 30)
_HINT = "pip install 'turnmill[images]' in every worker, or set pictures=\"as_is\" of the session"


class Scaling:
    """Makes pictures smaller, a few at a time. Of one event loop."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def fitted(self, request: Request, bounds: PictureBounds) -> Request:
        """Return the request with no picture larger than the model is shown.

        Raises Rejected where one cannot be read, or nothing here could read it.
        """
        made: dict[str, MadeSmaller] = {}
        for part in sent_in(request):
            if isinstance(part, Image) and part.id not in made and not _fits(part, bounds):
                async with self._room:
                    made[part.id] = await _made(request, part, bounds)
        return replace(request, made=made) if made else request


def _fits(part: Image, bounds: PictureBounds) -> bool:
    if not part.width or not part.height:
        return False
    return max(part.width, part.height) <= bounds.side_seen and part.size <= bounds.bytes_max


async def _made(request: Request, part: Image, bounds: PictureBounds) -> MadeSmaller:
    if part.size > _BYTES_MAX or part.width * part.height > PIXELS_MAX:
        raise _unreadable("too large to be made smaller")
    given = bytearray()
    async for chunk in chunks_of(request, part):
        given += chunk
        if len(given) > _BYTES_MAX:
            raise _unreadable("too large to be made smaller")
    return await asyncio.to_thread(_smaller, bytes(given), bounds)


def _smaller(given: bytes, bounds: PictureBounds) -> MadeSmaller:
    try:
        from PIL import Image as pillow  # noqa: N813, PLC0415
    except ImportError:
        raise Rejected("images_missing", hint=_HINT) from None
    try:
        with pillow.open(io.BytesIO(given)) as opened:
            if opened.width * opened.height > PIXELS_MAX:
                raise _unreadable("too large to be made smaller")
            return _written(_drawn(opened, bounds.side_seen), bounds)
    except Rejected:
        raise
    except Exception as error:  # noqa: BLE001
        # The edge to a library that reads what a user gave.
        name = name_of(error)
    raise _unreadable(name)


def _drawn(opened: Any, side: int) -> Any:
    """Return the picture upright, its longer side no longer than that."""
    from PIL import ImageOps  # noqa: PLC0415

    opened.draft("RGB", (side, side))  # a JPEG is decoded no larger than it has to be
    opened.thumbnail((side, side), reducing_gap=3.0)
    upright = ImageOps.exif_transpose(opened)
    has_alpha = "A" in upright.getbands() or "transparency" in upright.info
    return upright.convert("RGBA" if has_alpha else "RGB")


def _written(drawn: Any, bounds: PictureBounds) -> MadeSmaller:
    """Write it as JPEG, or as WebP where it is transparent, as good as there is room for."""
    kind, media_type = ("WEBP", "image/webp") if drawn.mode == "RGBA" else ("JPEG", "image/jpeg")
    for quality in _QUALITIES:
        out = io.BytesIO()
        drawn.save(out, kind, quality=quality)
        if out.tell() <= bounds.bytes_max:
            return MadeSmaller(
                media_type=media_type,
                width=drawn.width,
                height=drawn.height,
                said=out.getvalue(),
            )
    raise _unreadable("too large in every quality")


def _unreadable(why: str) -> Rejected:
    return Rejected(
        "picture_unreadable",
        detail=f"the picture cannot be made smaller: {why}",
        hint='send another one, or set pictures="as_is" of the session',
    )
