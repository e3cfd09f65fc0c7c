"""The audit log for people and for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from turnmill.show.listing import Listing
from turnmill.show.tables import fields, print_json
from turnmill.show.terminal import say, tell
from turnmill.show.wording import count

if TYPE_CHECKING:
    from turnmill.store.audit_records import AuditBreak, AuditCheck, AuditEntry, AuditHead

_ENTRY = (
    *("id", "at", "actor", "login", "action", "user_id", "subject", "objects", "figures", "digest"),
)
_HEAD = ("n", "last_id", "rows", "at", "hash")


def _row(one: AuditEntry) -> tuple[object, ...]:
    whose = one.user_id or (f"({one.subject[:8]})" if one.subject else "")
    of = " ".join(f"{name} {said}" for name, said in one.objects.items())
    return (
        one.id,
        one.at,
        one.actor,
        one.action,
        whose or of,
        of if whose else "",
        " ".join(f"{name}={json.dumps(said)}" for name, said in one.figures.items()),
        one.login,
    )


ENTRIES: Listing[AuditEntry] = Listing(
    columns=("id", "at", "who", "what", "whose", "of", "", "login"),
    row=_row,
    document=lambda one: fields(one, *_ENTRY),
    numbers=("id",),
    spare=("of", "login", ""),
)


def print_check(found: AuditCheck, *, as_json: bool) -> None:
    """Print what a look at the whole log has found."""
    if as_json:
        names = ("ok", "rows", "groups", "purged", "unchained")
        print_json({**fields(found, *names), "head": _head(found.head), "broken": _breaks(found)})
        return
    for one in found.broken:
        say(f"{_place(one)}: {one.what}")
    told = f"{count(found.rows, 'row')}, {count(found.groups, 'group')}"
    if found.purged:
        told += f", of {found.purged} the rows went when their time was over"
    if found.unchained:
        told += f"; {found.unchained} are not chained yet, upkeep does that"
    tell(told)
    if found.ok:
        tell("nothing was edited, removed, put in or moved")
    if found.head is not None:
        tell(f"head {found.head}")


def print_checkpoint(head: AuditHead | None, *, as_json: bool) -> None:
    """Print the head, as `verify --checkpoint` takes it."""
    if as_json:
        print_json({"checkpoint": None if head is None else str(head), "head": _head(head)})
    elif head is None:
        say("nothing has been written into the audit log")
    else:
        tell(str(head))


def _head(head: AuditHead | None) -> dict[str, Any] | None:
    return None if head is None else dict(fields(head, *_HEAD))


def _breaks(found: AuditCheck) -> list[dict[str, Any]]:
    return [dict(fields(one, "what", "id", "group")) for one in found.broken]


def _place(one: AuditBreak) -> str:
    if one.id is not None:
        return f"row {one.id}"
    return "subjects" if one.group is None else f"group {one.group}"
