"""Files of users, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnmill.show.listing import Listing
from turnmill.show.tables import fields, print_facts, print_json, print_outcome
from turnmill.show.wording import moment_text

if TYPE_CHECKING:
    from turnmill.store.file_records import Attachment


def _row(one: Attachment) -> tuple[object, ...]:
    return (one.id, one.user_id, one.media_type, one.size, one.name, one.created_at)


def _document(one: Attachment) -> dict[str, Any]:
    return dict(fields(one, *one.__dataclass_fields__))


FILES: Listing[Attachment] = Listing(
    columns=("id", "user", "type", "bytes", "name", "kept"),
    row=_row,
    document=_document,
    numbers=("bytes",),
    spare=("kept", "name"),
)


def print_file(found: Attachment, *, as_json: bool) -> None:
    """Print what is known of one."""
    if as_json:
        print_json(_document(found))
        return
    pixels = f"{found.width} × {found.height}" if found.width else ""
    print_facts(
        [
            ("id", found.id),
            ("user", found.user_id),
            ("name", found.name),
            ("type", found.media_type),
            ("bytes", found.size),
            ("pixels", pixels),
            ("duration", found.duration),
            ("sha256", found.sha256),
            ("kept", moment_text(found.created_at)),
        ]
    )


def print_removed_file(found: Attachment, *, as_json: bool) -> None:
    """Say that one is gone."""
    print_outcome(f"deleted file {found.id}", {"deleted": found.id}, as_json=as_json)
