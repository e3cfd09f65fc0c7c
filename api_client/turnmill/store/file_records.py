"""What store functions take and give of attachments."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NewType
from uuid import UUID

AttachmentId = NewType("AttachmentId", UUID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file that a user gave, kept once."""

    id: AttachmentId
    user_id: str = field(repr=False)
    sha256: str  #: of its bytes, in hex; empty where it is to go
    size: int  #: bytes
    media_type: str  #: what it is, by its bytes
    name: str = field(repr=False)  #: as its giver called it; never a path
    width: int | None  #: of a picture, in pixels
    height: int | None
    duration: timedelta | None  #: of what is heard, where it was measured
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """A place for bytes that are yet to come."""

    id: AttachmentId
    user_id: str = field(repr=False)
    bytes: int  #: up to so many


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """An attachment whose bytes are to be deleted, and then its row."""

    id: AttachmentId
    user_id: str = field(repr=False)


def folder_of(user_id: str) -> str:
    """Return below which name all files of a user lie in the file store."""
    return hashlib.sha256(user_id.encode()).hexdigest()


def key_of(user_id: str, attachment_id: UUID) -> str:
    """Return where the bytes lie in the file store.

    Nothing in it is chosen by anybody: neither a user's name nor that of a file is ever a path. No
    two attachments have one key, so that one which goes never takes another's bytes along.
    """
    return f"{folder_of(user_id)}/{attachment_id.hex}"
