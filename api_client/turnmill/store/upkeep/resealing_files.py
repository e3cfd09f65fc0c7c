"""How far files are sealed: a row beside those of the columns, and what stands of a file's hash."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, select, update

from turnmill.store.rules.sealing import hashes_of_file
from turnmill.store.schema.file_tables import attachments
from turnmill.store.schema.key_tables import resealing
from turnmill.store.types import db_now, insert_into

#: Beside the names of columns.
FILES = "attachments.files"


@dataclass(frozen=True, slots=True)
class ToSeal:
    """A file that is to be looked at."""

    id: UUID
    user_id: str = field(repr=False)
    sha256: str | None = field(repr=False)


class Page(NamedTuple):
    """The next files, and behind which they stand; None: all were looked at."""

    after: str | None
    files: Sequence[ToSeal]


def page(conn: Connection, *, limit: int) -> Page | None:
    """Return the next files that are kept. In a transaction of its own, which ends before them."""
    conn.execute(insert_into(conn, resealing).values(name=FILES).on_conflict_do_nothing())
    mine = select(resealing.c.after).where(resealing.c.name == FILES, resealing.c.done_at.is_(None))
    stand = conn.execute(mine).one_or_none()
    if stand is None:
        return None
    query = select(attachments.c.id, attachments.c.user_id, attachments.c.sha256).where(
        attachments.c.ready, attachments.c.gone_at.is_(None)
    )
    after: str | None = stand.after[0] if stand.after else None
    if after is not None:
        query = query.where(attachments.c.id > UUID(after))
    rows = conn.execute(query.order_by(attachments.c.id).limit(limit))
    return Page(after, [ToSeal(*row) for row in rows])


def passed(conn: Connection, seen: Page, *, sealed: int) -> None:
    """Note that these were looked at, unless somebody else was faster, or it began anew."""
    stand = conn.execute(
        select(resealing).where(resealing.c.name == FILES).with_for_update()
    ).one_or_none()
    if stand is None or (stand.after[0] if stand.after else None) != seen.after:
        return
    values = {
        "after": [seen.files[-1].id.hex] if seen.files else stand.after,
        "looked_at": stand.looked_at + len(seen.files),
        "sealed": stand.sealed + sealed,
        "done_at": None if seen.files else db_now(),
    }
    conn.execute(update(resealing).where(resealing.c.name == FILES).values(values))


def is_kept(conn: Connection, file: ToSeal) -> bool:
    """Tell whether the file is to lie there still: it may have gone while it was sealed."""
    kept = select(attachments.c.id).where(
        attachments.c.id == file.id, attachments.c.ready, attachments.c.gone_at.is_(None)
    )
    return conn.execute(kept).one_or_none() is not None


def rekey(conn: Connection, file: ToSeal, digest: str) -> None:
    """Let what stands for the file's bytes be keyed, which was their very hash before.

    Raises KeyWanted. Where the user has the same content under a keyed hash by now, it stays.
    """
    keyed, _ = hashes_of_file(conn, file.user_id, digest)
    same = select(attachments.c.id).where(
        attachments.c.user_id == file.user_id, attachments.c.sha256 == keyed
    )
    conn.execute(
        update(attachments)
        .where(attachments.c.id == file.id, attachments.c.sha256 == digest, ~same.exists())
        .values(sha256=keyed)
    )
