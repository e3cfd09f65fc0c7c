"""How a vendor gets what is attached to a request: along with it, or uploaded before.

What it would refuse is refused before it is asked: a session would meet the refusal with every
later message. Where the history is to blame, that is a conversation which is too long.
"""

from dataclasses import dataclass
from typing import NamedTuple

from turnmill.domain.content import Attached, Audio, Image, Kind
from turnmill.domain.errors import ContextFull, Rejected, UnsupportedPart
from turnmill_worker.providers.files import Files, attached_in, holds_attachments, may_hold
from turnmill_worker.providers.parameters import choice
from turnmill_worker.providers.port import PictureBounds, Request

PDF = "application/pdf"
PICTURES = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
#: Texts whose types do not begin with `text/`.
_TEXTS = frozenset(
    {"application/json", "application/xml", "application/x-yaml", "application/toml"}
)

_MB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one API takes."""

    named: frozenset[Kind]  #: kinds that may be uploaded and named
    pictures_max: int  #: in one request
    body_max: int  #: bytes of all that is sent along, once it is encoded
    names_texts: bool = True  #: texts that were uploaded are taken, too


class FileInfo(NamedTuple):
    """What is known of a file as it is sent."""

    size: int  #: bytes
    media_type: str
    width: int = 0  #: of a picture, in pixels; 0: nobody knows
    height: int = 0


def info_of(request: Request, part: Attached) -> FileInfo:
    """Return what is known of an attachment as this request has it."""
    made = request.made.get(part.id)
    if made is not None:
        return FileInfo(len(made.said), made.media_type, made.width, made.height)
    if isinstance(part, Image):
        return FileInfo(part.size, part.media_type, part.width, part.height)
    return FileInfo(part.size, part.media_type)


def is_text(media_type: str) -> bool:
    """Tell whether a document is plain text."""
    return media_type.startswith("text/") or media_type in _TEXTS


def unsupported_type(info: FileInfo) -> Rejected:
    """Return the error for a file of a type that a provider cannot be sent."""
    return Rejected(
        UnsupportedPart.code,
        detail=f"a file of the type {info.media_type}",
        hint="move the session to a provider that takes it; nothing was sent",
    )


def files_of(request: Request, part: Attached) -> Files:
    """Return where the attachments of a request are; raises Rejected where nobody has them."""
    if request.files is None or not part.id:
        raise Rejected(
            "attachment_unknown",
            detail="a part without an attachment",
            hint="send files as attachments; nothing was sent",
        )
    return request.files


def sent_in(request: Request) -> list[Attached]:
    """Return what is attached to that part of the conversation which the request carries."""
    now = request.messages[request.continues :] if request.thread_ref else request.messages
    before = () if request.thread_ref or not may_hold(request.history) else request.history
    return [part for one in (*before, *now) for part in attached_in(one)]


def hears(request: Request) -> bool:
    """Tell whether the model is given a sound itself, and not its words."""
    if not holds_attachments(request):
        return False
    return any(isinstance(one, Audio) and not one.is_told for one in sent_in(request))


def uploads_of(request: Request, terms: Terms, *, least: int | None) -> list[Attached]:
    """Return what is better uploaded: files of `least` bytes, and what there is no room for else.

    None: nothing, unless the setting `uploads` says so; that makes it all that can be, or nothing.
    """
    how = choice(request.settings, "uploads", among=("auto", "always", "never"))
    if how == "never" or (how == "auto" and least is None):
        return []
    along = {one.id: one for one in sent_in(request)}
    sizes = {one.id: info_of(request, one).size for one in along.values()}
    can_be = [one for one in along.values() if _can_be_named(request, one, terms)]
    if how == "always" or least is None:
        return can_be
    chosen = {one.id for one in can_be if sizes[one.id] >= least}
    left = sum(_encoded(size) for name, size in sizes.items() if name not in chosen)
    for one in sorted(can_be, key=lambda one: -sizes[one.id]):
        if left <= terms.body_max:
            break
        if one.id not in chosen:
            chosen.add(one.id)
            left -= _encoded(sizes[one.id])
    return [one for one in can_be if one.id in chosen]


def refuse_too_much(request: Request, terms: Terms, bounds: PictureBounds) -> None:
    """Raise where the vendor would refuse what is attached, by number, bytes or pixels."""
    along = sent_in(request)
    if not along:
        return
    now = {part.id for one in request.messages for part in attached_in(one)}
    pictures = [one for one in along if isinstance(one, Image)]
    for one in pictures:
        if why := _too_large(info_of(request, one), bounds):
            raise Rejected(
                "picture_too_large",
                detail=why,
                hint='send a smaller one, or set pictures="fit" of the session: nothing was sent',
            )
    if len(pictures) > terms.pictures_max:
        few = sum(one.id in now for one in pictures) <= terms.pictures_max
        raise _too_much(f"{len(pictures)} pictures, of {terms.pictures_max} at the most", few)
    large = [one for one in along if one.id not in request.uploaded]
    size = sum(_encoded(info_of(request, one).size) for one in large)
    if size > terms.body_max:
        own = sum(_encoded(info_of(request, one).size) for one in large if one.id in now)
        most = terms.body_max // _MB
        raise _too_much(f"{size // _MB} MB of files, of {most} at the most", own <= terms.body_max)


def _can_be_named(request: Request, part: Attached, terms: Terms) -> bool:
    if type(part) not in terms.named or part.id in request.made:
        return False
    return terms.names_texts or not is_text(part.media_type)


def _encoded(size: int) -> int:
    return (size + 2) // 3 * 4


def _too_large(info: FileInfo, bounds: PictureBounds) -> str:
    if info.size > bounds.bytes_max:
        return f"a picture of {info.size} bytes, of {bounds.bytes_max} at the most"
    side = max(info.width, info.height)
    if side > bounds.side_max:
        return f"a picture of {info.width} x {info.height} pixels, of {bounds.side_max} a side"
    return ""


def _too_much(detail: str, for_history: bool) -> Rejected:
    """Return the error; what the history is to blame for can be left out of it."""
    if for_history:
        return ContextFull(ContextFull.code, detail=detail)
    return Rejected(
        "attachments_too_large", detail=detail, hint="send fewer, or smaller ones; nothing was sent"
    )
