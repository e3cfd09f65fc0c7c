"""Attachments: `client.attachments`, and what is attached to a message."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from turnmill.domain.bounds import MOST_ATTACHMENTS, MOST_PARTS
from turnmill.domain.checks import check_name
from turnmill.domain.content import Attached, Audio, File, Image, Part, Text
from turnmill.domain.errors import AttachmentNotFound, AttachmentRefused, InvalidInput
from turnmill.domain.ids import as_uuid
from turnmill.domain.plain import items_of, text_of
from turnmill.files.port import Found
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.file_records import Attachment, AttachmentId, Owed, Reserved
from turnmill.store.nouns import attachments as rows
from turnmill.store.nouns import sessions as session_rows
from turnmill.store.refusals import translated
from turnmill.verbs import intake
from turnmill.verbs.refs import SessionRef, joined, session_id
from turnmill.verbs.verb import Connection, Deed, Effect, Shown, Verb, single, transaction

#: An attachment as the client returns it, or its id.
AttachmentRef = Attachment | UUID | str

_DETAILS = ("", "auto", "low", "high", "original")


def known(user_id: str, digest: str, settings: Settings) -> Verb[Attachment | None]:
    """Find out whether the user has the same content already."""
    grace = settings.files_grace
    return transaction(lambda conn: Effect(rows.known(conn, user_id, digest, grace=grace)))


def reserve(user_id: str, size: int | None, settings: Settings) -> Verb[Reserved]:
    """Reserve room for bytes that are to be written, as many as are known or may come."""
    most = settings.max_file_bytes if size is None else size
    room = {"most": most, "least": size or 1, "quota": settings.files_quota}

    def on(conn: Connection) -> Effect[Reserved]:
        return Effect(rows.reserve(conn, AttachmentId(new_id()), user_id, **room))

    return transaction(on)


def keep(reserved: Reserved, found: Found, settings: Settings) -> Verb[Attachment]:
    """Let what was written stand."""
    grace = settings.files_grace
    return transaction(lambda conn: Effect(rows.keep(conn, reserved, found, grace=grace)))


def give_back(reserved: Reserved) -> Verb[list[Owed]]:
    """Let an upload go that came to nothing."""
    return transaction(lambda conn: Effect(rows.give_back(conn, reserved)))


def nobodys(reserved: Reserved) -> Verb[list[Owed]]:
    """Find out whether what was reserved is known no more: its user was erased meanwhile."""

    def on(conn: Connection) -> Effect[list[Owed]]:
        unknown = rows.unknown_among(conn, [reserved.id])
        owed = Owed(id=reserved.id, user_id=reserved.user_id)
        return Effect([owed] if unknown else [])

    return single(on)


def forget(owed: Owed) -> Verb[None]:
    """Remove the row of an attachment whose bytes are deleted."""

    def on(conn: Connection) -> Effect[None]:
        rows.forget(conn, owed)
        return Effect(None)

    return transaction(on)


def get(attachment: AttachmentRef) -> Verb[Attachment]:
    """Read what is known of an attachment."""
    wanted = attachment_id(attachment)
    return single(lambda conn: Effect(rows.get(conn, wanted)))


def opening(attachment: AttachmentRef) -> Verb[Attachment]:
    """Read where the bytes of an attachment are, to read them then."""
    wanted = attachment_id(attachment)
    shows = Shown("file", "user", lambda found: (found.user_id,))
    return single(lambda conn: Effect(rows.get(conn, wanted)), shows=shows)


def find(*, user_id: str | None, after: object, limit: int) -> Verb[list[Attachment]]:
    """Read a page of attachments, newest first."""
    user = intake.name_or_none(user_id, name="user_id")
    page = intake.listing(after=after, limit=limit)
    return single(lambda conn: Effect(rows.find(conn, user_id=user, **page)))


def usage(user_id: str) -> Verb[int]:
    """Read how many bytes a user's files have."""
    user = check_name(user_id, name="user_id")
    return single(lambda conn: Effect(rows.usage(conn, user)))


def remove(attachment: AttachmentRef) -> Verb[list[Owed]]:
    """Let an attachment go, whoever uses it."""
    wanted = attachment_id(attachment)
    deed = Deed(
        "file.deleted", objects={"file": wanted}, whose=lambda conn: rows.get(conn, wanted).user_id
    )
    return transaction(lambda conn: Effect(rows.remove(conn, wanted)), does=deed)


def owner(session: SessionRef) -> Verb[str]:
    """Find out whose session it is."""
    return single(lambda conn: Effect(session_rows.get(conn, session_id(conn, session)).user_id))


def owner_joined(session: SessionRef, schema: str | None) -> Callable[[Any], str]:
    """Return what finds that out on a connection of the caller's, in his transaction."""

    def on(given: Any) -> str:
        with translated():
            conn = joined(given, schema)
            return session_rows.get(conn, session_id(conn, session)).user_id

    return on


def mine(attachment: AttachmentRef, user_id: str) -> Verb[Attachment]:
    """Read an attachment of this user; anybody else's is as unknown as one that is not there."""
    wanted = attachment_id(attachment)

    def on(conn: Connection) -> Effect[Attachment]:
        found = rows.of_user(conn, [wanted], user_id).get(AttachmentId(wanted))
        if found is None:
            raise AttachmentNotFound()
        return Effect(found)

    return single(on)


def attachment_id(attachment: object) -> UUID:
    """Return the id of an attachment given as record, UUID or text; raises InvalidInput."""
    return intake.identifier(attachment, name="attachment", hint="`turnmill files ls` lists them")


def loose_parts(said: object, attachments: object) -> Sequence[Any] | None:
    """Return a message's parts and what is attached to it, in order, none of it kept yet.

    None where there are no files in it. Raises InvalidInput for what is no list, or too long a one.
    """
    listed = items_of(said, most=MOST_PARTS) if isinstance(said, list | tuple) else None
    parts: Sequence[Any] = [said] if listed is None else listed
    given = items_of(attachments, most=MOST_ATTACHMENTS)
    if given is None or not isinstance(attachments, list | tuple):
        raise InvalidInput("attachments must be a list", hint='attachments=["cat.png"]')
    # What is no part is told so by whoever reads the message.
    files = [one for one in parts if isinstance(one, Attached)]
    if not files and not given:
        return None
    if len(files) + len(given) > MOST_ATTACHMENTS:
        raise InvalidInput(
            f"more than {MOST_ATTACHMENTS} files in one message", hint="send several messages"
        )
    words = [Text(said)] if isinstance(said, str) else parts
    found = [*words, *map(_as_part, given)]
    return [_plain(one) if isinstance(one, Attached) else one for one in found]


def _as_part(given: object) -> Attached:
    """Return what is attached as a part of a kind that is not known yet."""
    return given if isinstance(given, Attached) else Attached(given)


def _plain(part: Attached) -> Attached:
    """Return the part with texts of no kind of the caller's; raises InvalidInput."""
    said = {name: getattr(part, name) for name in ("id", "url", "name", "media_type")}
    for name, one in said.items():
        if isinstance(one, str | None):
            said[name] = text_of(one) or ""
        elif name != "id" or not isinstance(one, UUID | Attachment):
            raise InvalidInput(f"the {name} of a file must be a text", hint='Image("cat.png")')
    return replace(part, **said)


def source_of(part: Attached) -> Any:
    """Return what is to be kept; None where the part names what is kept already.

    Raises InvalidInput where it names several things, or none.
    """
    source = part.source if part.source is not None else part.url or None
    if isinstance(source, Attachment | UUID) or as_uuid(source) is not None:
        return None
    if (source is None) == (not part.id):
        raise InvalidInput("a file has a source or an id", hint='Image("cat.png"), Image(id="…")')
    return source


def reference_of(part: Attached) -> AttachmentRef:
    """Return which attachment a part names."""
    found: AttachmentRef = part.id if part.source is None else part.source
    return found


def part_for(part: Attached, kept: Attachment) -> Part:
    """Return the part as it is stored; raises AttachmentRefused where it is of another kind."""
    kind = _kind_of(kept.media_type)
    if type(part) is not Attached and type(part) is not kind:
        raise AttachmentRefused(f"the file is {kept.media_type}, which is no {part.kind}")
    made = as_part(kept)
    if isinstance(part, Image) and isinstance(made, Image):
        if part.detail not in _DETAILS:
            raise InvalidInput(
                "detail must be auto, low, high or original", hint='detail="low" costs the least'
            )
        return replace(made, detail=part.detail)
    return made


def as_part(kept: Attachment) -> Image | File | Audio:
    """Return the attachment as a part of a message."""
    common: dict[str, Any] = {
        "id": str(kept.id),
        "sha256": kept.sha256,
        "media_type": kept.media_type,
        "name": kept.name,
        "size": kept.size,
    }
    kind = _kind_of(kept.media_type)
    if kind is Image:
        return Image(**common, width=kept.width or 0, height=kept.height or 0)
    if kind is Audio:
        ms = 0 if kept.duration is None else round(kept.duration.total_seconds() * 1000)
        return Audio(**common, duration_ms=ms)
    return File(**common)


def _kind_of(media_type: str) -> type[Image] | type[File] | type[Audio]:
    return {"image": Image, "audio": Audio}.get(media_type.partition("/")[0], File)
