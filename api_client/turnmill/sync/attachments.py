# Made from aio/attachments.py by `make sync`: change that.
"""Attachments: files of users, kept once each, and given to models."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from turnmill.domain.checks import check_name
from turnmill.domain.content import Attached, Part
from turnmill.domain.errors import StoreError
from turnmill.executor.thread import Executor, aside, knowing
from turnmill.files.arriving import Arriving, arriving
from turnmill.settings import Settings
from turnmill.store.file_records import Attachment, Owed, Reserved, key_of
from turnmill.verbs import attachments
from turnmill.verbs.attachments import AttachmentRef


class Attachments:
    """`client.attachments`: what users gave beside their words."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @knowing
    def put(
        self,
        source: Any,
        *,
        user_id: str,
        name: str | None = None,
        media_type: str | None = None,
    ) -> Attachment:
        """Keep a file for a user, or return what he has of the same content already.

        - `source`: a path, bytes, a file that is open for reading bytes, or an http(s) URL, which
          is fetched from public addresses alone. Never a path or an open file that a user named.
        - `name`: as people call it, no path; else the last part of the path or URL.
        - `media_type`: what it is claimed to be; the bytes say what it is.

        It is read in pieces, counted, and never held whole. What no message holds goes after a day
        (TURNMILL_FILES_GRACE). Raises InvalidInput, AttachmentRefused for a kind or size that is
        not taken, FilesQuotaExceeded, AddressRefused, NotReached, or FilesUnavailable; nothing is
        kept then.
        """
        owner = check_name(user_id, name="user_id")
        return kept(self._executor, source, user_id=owner, name=name, media_type=media_type)

    def get(self, attachment: AttachmentRef) -> Attachment:
        """Return what is known of an attachment, or raise AttachmentNotFound."""
        return self._executor.run(attachments.get(attachment))

    def open(self, attachment: AttachmentRef) -> Iterator[bytes]:
        """Yield its bytes in pieces of up to 256 KiB; raises AttachmentNotFound."""
        found = self._executor.run(attachments.opening(attachment))
        pieces = self._executor.files.chunks(key_of(found.user_id, found.id))
        while piece := aside(next, pieces, b""):
            yield piece

    def list(
        self, *, user_id: str | None = None, after: UUID | None = None, limit: int = 100
    ) -> list[Attachment]:
        """Return up to `limit` attachments, newest first; `after` is the last id of a page."""
        return self._executor.run(attachments.find(user_id=user_id, after=after, limit=limit))

    def usage(self, user_id: str) -> int:
        """Return how many bytes of TURNMILL_FILES_QUOTA a user's files have."""
        return self._executor.run(attachments.usage(user_id))

    def delete(self, attachment: AttachmentRef) -> None:
        """Delete an attachment, its bytes too, or raise AttachmentNotFound, or UserOnHold.

        A conversation that holds it goes on: models are told, in its place, that it is kept no
        longer.
        """
        for owed in self._executor.run(attachments.remove(attachment)):
            removed(self._executor, owed)


def kept(
    executor: Executor,
    source: object,
    *,
    user_id: str,
    name: object,
    media_type: object,
    keeps: timedelta | None = None,
) -> Attachment:
    """Keep a file, for so long where no message holds it; see `Attachments.put`."""
    settings = executor.settings
    if keeps is not None and keeps > settings.files_grace:
        settings = replace(settings, files_grace=keeps)
    new = aside(arriving, source, name=name, media_type=media_type, settings=settings)
    try:
        same = None
        if new.digest:
            same = executor.run(attachments.known(user_id, new.digest, settings))
        return same or _stored(executor, new, user_id, settings)
    finally:
        aside(new.close)


def _stored(executor: Executor, new: Arriving, user_id: str, settings: Settings) -> Attachment:
    files = executor.files
    reserved = executor.run(attachments.reserve(user_id, new.size, settings))
    try:
        key = key_of(user_id, reserved.id)
        found = aside(new.finish, files, key, reserved.bytes)
        kept = executor.run(attachments.keep(reserved, found, settings))
    except Exception:
        _given_back(executor, reserved)
        raise
    if kept.id != reserved.id:  # somebody has kept the same content meanwhile
        removed(executor, Owed(id=reserved.id, user_id=user_id))
    return kept


def _given_back(executor: Executor, reserved: Reserved) -> None:
    with suppress(StoreError):  # what went wrong before is raised, and upkeep sees to the rest
        owed = executor.run(attachments.give_back(reserved))
        for one in owed or executor.run(attachments.nobodys(reserved)):
            removed(executor, one)


def removed(executor: Executor, owed: Owed) -> None:
    """Delete the bytes of an attachment that is marked to go, and then its row."""
    aside(executor.files.delete, key_of(owed.user_id, owed.id))
    executor.run(attachments.forget(owed))


def kept_all(
    executor: Executor,
    loose: Sequence[Any],
    user_id: str,
    *,
    keeps: timedelta | None = None,
) -> Sequence[Part]:
    """Return a message's parts, with what is attached to it kept for this user."""
    return [
        _part(executor, one, user_id, keeps) if isinstance(one, Attached) else one for one in loose
    ]


def _part(executor: Executor, part: Attached, user_id: str, keeps: timedelta | None) -> Part:
    source = attachments.source_of(part)
    if source is None:
        found = executor.run(attachments.mine(attachments.reference_of(part), user_id))
    else:
        found = kept(
            executor,
            source,
            user_id=user_id,
            name=part.name or None,
            media_type=part.media_type or None,
            keeps=keeps,
        )
    return attachments.part_for(part, found)
