"""Participants and what they are told, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnmill.show.listing import Listing
from turnmill.show.tables import fields, print_json, stdout_console
from turnmill.show.terminal import on_one_line, print_said, tell
from turnmill.show.wording import moment_text, said

if TYPE_CHECKING:
    from turnmill.store.people_records import Happened, Note, Participant

PARTICIPANTS: Listing[Participant] = Listing(
    columns=("name", "role", "unread", "read", "joined"),
    row=lambda one: (one.name, one.role, one.unread, one.read, one.joined_at),
    document=lambda one: fields(one, *one.__dataclass_fields__),
    numbers=("unread", "read"),
    spare=("joined", "read"),
)

_TOLD = ("cursor", "id", "kind", "session_id", "turn_id", "sender", "state", "at")
_OF_NOTE = ("session_id", "cursor", "sender", "seq", "created_at", "created")


def print_happened(one: Happened, *, text: bool, as_json: bool) -> None:
    """Print one thing on a line, at once; with `text`, what was said below it."""
    if as_json:
        from turnmill.store.codec import exported

        document: dict[str, Any] = dict(fields(one, *_TOLD))
        print_json(document | (exported(one.parts) if text else {}))
        return
    words = (str(one.cursor), moment_text(one.at), one.kind, one.sender or "", one.turn_id or "")
    tell("  ".join(on_one_line(str(word)) for word in words).rstrip())
    if text and one.parts:
        print_said(said(one.parts) + "\n", to=stdout_console())


def print_note(note: Note, *, as_json: bool) -> None:
    """Print where a note stands."""
    if as_json:
        print_json(fields(note, *_OF_NOTE))
    else:
        tell(f"note {note.cursor}")
