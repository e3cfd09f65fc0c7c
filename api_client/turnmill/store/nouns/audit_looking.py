"""A look at the whole audit log: what was edited, removed, put in or moved."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, exists, select

from turnmill.domain.auditing import Action
from turnmill.store.audit_records import (
    FIRST,
    AuditBreak,
    AuditCheck,
    AuditEntry,
    AuditHead,
    pseudonym_of,
    rows_digest_of,
)
from turnmill.store.nouns.audit_entries import ENTRIES, entry
from turnmill.store.schema.audit_tables import audit_heads, audit_log, audit_subjects

#: Rows that are read at once.
_PAGE = 1000
#: Whoever asks, Postgres removes no group that was closed later: `audit_purge`.
KEPT_AT_LEAST = timedelta(days=30)
#: What is told of a log that is broken everywhere.
_MOST_BROKEN = 100

_BEFORE = audit_log.alias()
_GAPS = (
    select(audit_log.c.id)
    .where(~exists().where(_BEFORE.c.id == audit_log.c.after))
    .order_by(audit_log.c.id)
    .limit(_MOST_BROKEN)
)
_ERASED = audit_log.alias()
_LOST = (
    select(audit_log.c.subject)
    .distinct()
    .where(
        audit_log.c.subject.is_not(None),
        ~exists().where(audit_subjects.c.subject == audit_log.c.subject),
        ~exists().where(
            _ERASED.c.subject == audit_log.c.subject, _ERASED.c.action == Action.USER_ERASED.value
        ),
    )
    .limit(_MOST_BROKEN)
)


class Looking:
    """A look that goes from the beginning to the end, in the caller's transaction."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._rows = 0
        self._open = 0
        self._first_id = 0
        self._heads: list[AuditHead] = []
        self._empty: list[AuditHead] = []  # whose rows are gone
        self._purges: list[tuple[int, datetime]] = []  # up to where, and when, as rows say
        self._broken: list[AuditBreak] = []

    def at_groups(self) -> None:
        """Look at every group that is closed."""
        last: AuditHead | None = None
        for head in self._groups():
            self._at_head(head, last)
            self._at_rows(head, after=0 if last is None else last.last_id)
            last = head
            self._heads.append(head)

    def at_open_rows(self) -> None:
        """Look at rows that are in no group yet."""
        upto = self._heads[-1].last_id if self._heads else 0
        self._open = sum(1 for _ in self._rows_behind(upto))

    def at_gaps(self) -> None:
        """Look at what each row says of the one that stood before it: that is there."""
        upto = max((upto for upto, _ in self._purges), default=0)
        gone = _GAPS.where(audit_log.c.after > upto)
        for number in self._conn.scalars(gone):
            self._is_broken("a row before it was removed", row=number)

    def at_purged(self) -> None:
        """Look at groups without rows: they are old, the first ones, and a row says they went."""
        for head in self._empty:
            gone = any(
                head.last_id <= upto and at - head.at >= KEPT_AT_LEAST for upto, at in self._purges
            )
            if not gone or 0 < self._first_id < head.last_id:
                self._is_broken("its rows were removed", group=head.n)

    def at_subjects(self) -> None:
        """Look at pseudonyms: of whom nobody is known, he was erased."""
        for subject in self._conn.scalars(_LOST):
            self._is_broken(f"whose {subject} is was removed, and nobody of that name erased")
        last = ""
        query = select(audit_subjects).order_by(audit_subjects.c.subject).limit(_PAGE)
        while page := self._conn.execute(query.where(audit_subjects.c.subject > last)).all():
            last = page[-1].subject
            for row in page:
                if pseudonym_of(row.user_id, key=row.key) != row.subject:
                    self._is_broken(f"whose {row.subject} is was edited")

    def at_checkpoint(self, n: int, hash_: str) -> None:
        """Look at what a head was when it was exported."""
        if not any((head.n, head.hash) == (n, hash_) for head in self._heads):
            self._is_broken("it is not what the checkpoint says", group=n)

    def found(self) -> AuditCheck:
        """Return what was found."""
        return AuditCheck(
            rows=self._rows,
            groups=len(self._heads),
            purged=len(self._empty),
            unchained=self._open,
            head=self._heads[-1] if self._heads else None,
            broken=tuple(self._broken),
        )

    def _at_head(self, head: AuditHead, last: AuditHead | None) -> None:
        if not head.is_whole:
            self._is_broken("its head was edited", group=head.n)
        follows = (1, FIRST) if last is None else (last.n + 1, last.hash)
        if (head.n, head.before) != follows or (last and head.last_id <= last.last_id):
            self._is_broken("a head before it was edited, removed, put in or moved", group=head.n)

    def _at_rows(self, head: AuditHead, *, after: int) -> None:
        within = (audit_log.c.id > after, audit_log.c.id <= head.last_id)
        rows = self._conn.execute(ENTRIES.where(*within).order_by(audit_log.c.id)).all()
        found = [self._looked_at(row) for row in rows]
        if not found:
            self._empty.append(head)
        elif len(found) != head.rows:
            self._is_broken("rows were removed or put in", group=head.n)
        elif rows_digest_of([one.digest for one in found]) != head.rows_digest:
            self._is_broken("rows were edited or moved", group=head.n)

    def _groups(self) -> Iterator[AuditHead]:
        last = -(2**62)
        query = select(audit_heads).order_by(audit_heads.c.n).limit(_PAGE)
        while page := self._conn.execute(query.where(audit_heads.c.n > last)).all():
            last = page[-1].n
            yield from map(head_of, page)

    def _rows_behind(self, last: int) -> Iterator[AuditEntry]:
        query = ENTRIES.order_by(audit_log.c.id).limit(_PAGE)
        while page := self._conn.execute(query.where(audit_log.c.id > last)).all():
            last = page[-1].id
            yield from map(self._looked_at, page)

    def _looked_at(self, row: Row[Any]) -> AuditEntry:
        found = entry(row)
        if not found.is_whole:
            self._is_broken("it was edited or moved", row=found.id)
        if found.action == Action.AUDIT_PURGED:
            upto = found.figures.get("upto")
            self._purges += [(upto, found.at)] if isinstance(upto, int) else []
        self._first_id = self._first_id or found.id
        self._rows += 1
        return found

    def _is_broken(self, what: str, *, row: int | None = None, group: int | None = None) -> None:
        if len(self._broken) < _MOST_BROKEN:
            self._broken.append(AuditBreak(what=what, id=row, group=group))


def head_of(row: Row[Any]) -> AuditHead:
    """Return the record."""
    return AuditHead(**{name: getattr(row, name) for name in AuditHead.__dataclass_fields__})
