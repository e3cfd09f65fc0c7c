"""Templates for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from turnmill.domain.templates import lines_of
from turnmill.show.listing import Listing
from turnmill.show.tables import fields, print_json, print_table, stdout_console
from turnmill.show.terminal import on_one_line, print_said, say, tell
from turnmill.show.wording import relative

if TYPE_CHECKING:
    from turnmill.store.template_records import TemplateDiff, TemplateRecord, TemplateSync

_FIELDS = ("name", "version", "is_current", "note", "created_at")
_COLUMNS = ("name", "version", "asks", "made", "note")


def as_document(template: TemplateRecord) -> dict[str, Any]:
    """Return what programs read: all that it says."""
    return {**fields(template, *_FIELDS), "definition": template.definition}


def print_template(
    template: TemplateRecord,
    versions: Sequence[TemplateRecord],
    uses: Mapping[int, int],
    *,
    as_json: bool,
) -> None:
    """Print what a version says, and which other ones there are."""
    if as_json:
        print_json(as_document(template) | {"sessions": uses.get(template.version, 0)})
        return
    tell(f"{template.ref}{', current' if template.is_current else ''}")
    print_said("\n".join(lines_of(template.definition)) + "\n", to=stdout_console())
    rows = [_version_row(one, uses) for one in versions]
    print_table(("version", "current", "sessions", "made", "note"), rows, right=("sessions",))


def _version_row(one: TemplateRecord, uses: Mapping[int, int]) -> tuple[object, ...]:
    current = "current" if one.is_current else ""
    return (one.version, current, uses.get(one.version, 0), _made(one), _note(one))


def print_diff(diff: TemplateDiff, *, as_json: bool) -> None:
    """Print what differs."""
    if as_json:
        changes = [
            {"path": one.path, "before": one.before, "after": one.after} for one in diff.changes
        ]
        print_json({**fields(diff, "name", "before", "after"), "changes": changes})
    elif diff.changes:
        print_said(diff.text, to=stdout_console())
    else:
        say("they say the same")


def print_current(template: TemplateRecord, *, as_json: bool) -> None:
    """Print which version is current now."""
    if as_json:
        print_json(as_document(template))
    else:
        tell(f"{template.ref} is current; sessions that stand stay as they are")


def print_sync(done: TemplateSync, *, dry_run: bool, as_json: bool) -> None:
    """Print what became of each file."""
    for one in done.put:
        word = _word(is_new=one.is_new, dry_run=dry_run)
        if as_json:
            print_json({**fields(one.record, "name", "version"), "is_new": one.is_new})
        else:
            tell(f"{one.record.ref}  {word}")
    if not as_json:
        for name in done.only_in_store:
            say(f"{on_one_line(name)} has no file; it stays as it is")


def _word(*, is_new: bool, dry_run: bool) -> str:
    if not is_new:
        return "unchanged"
    return "would be put" if dry_run else "put"


def _row(template: TemplateRecord) -> tuple[object, ...]:
    said = template.definition
    asks = f"{said.get('provider', 'mock')} {said.get('model', 'mock')}"
    return (template.name, template.version, asks, _made(template), _note(template))


def _made(template: TemplateRecord) -> str:
    return relative(template.created_at, now=datetime.now(UTC))


def _note(template: TemplateRecord) -> str:
    return "" if template.note is None else on_one_line(template.note)[:80]


TEMPLATES: Listing[TemplateRecord] = Listing(
    columns=_COLUMNS, row=_row, document=as_document, spare=("made", "note")
)
