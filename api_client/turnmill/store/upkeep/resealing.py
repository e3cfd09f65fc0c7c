"""Sealing what is plain, or sealed by a key of before: in chunks, beside all other work.

How far each column has come stands in a row, so whoever goes on goes on there; a row that is
sealed by its user's newest key is looked at, and left alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    String,
    cast,
    delete,
    func,
    select,
    tuple_,
    type_coerce,
    update,
)

from turnmill.crypto.data_keys import DataKeys
from turnmill.crypto.envelope import PREFIX, SEALED_IN, key_id_of
from turnmill.crypto.sealing import DataKey
from turnmill.crypto.wanted import HOUSE, KeyWanted, Owner
from turnmill.domain.errors import DataKeyMissing
from turnmill.domain.ids import BatchId
from turnmill.store.nouns.batches import one_user_of
from turnmill.store.readable import ODD
from turnmill.store.rules.sealing import is_chosen, owners_of, plain_of, seal, seal_object
from turnmill.store.schema.key_tables import resealing
from turnmill.store.schema.secrecy import BY_CHOICE, CONTENT, place_of, table_of
from turnmill.store.schema.tables import batches, turns
from turnmill.store.sealed_types import SealedObject, SealedSettings
from turnmill.store.types import Json, db_now, insert_into
from turnmill.store.vaults import keys_at, plain

#: Of what stands before the id of the key, and that.
_SHOWN = len(PREFIX) + 23
#: Where nobody chose to have objects sealed, those alone are that were sealed before.
_LEFT = ", sealed before"


class Resealing(NamedTuple):
    """How far a column has come."""

    name: str
    looked_at: int
    sealed: int
    is_done: bool


def begin_anew(conn: Connection) -> None:
    """Look at everything again: keys were rotated, or content was written plain meanwhile."""
    conn.execute(delete(resealing))


def progress(conn: Connection) -> list[Resealing]:
    """Return how far each column has come, as far as any has."""
    rows = conn.execute(select(resealing).order_by(resealing.c.name))
    return [Resealing(row.name, row.looked_at, row.sealed, row.done_at is not None) for row in rows]


def reseal(conn: Connection, *, limit: int = 200) -> int:
    """Look at up to `limit` rows, and seal what is to be; return how many it saw.

    0: all were looked at, or somebody else does so at this moment. Raises KeyWanted. The caller's
    transaction.
    """
    keys = keys_at(conn.dialect)
    if keys is None:
        return 0
    for column in (*CONTENT, *BY_CHOICE):
        if (seen := _reseal(conn, keys, column, limit=limit)) > 0:
            return seen
    return 0


def _named(keys: DataKeys, column: Column[Any]) -> str:
    """Return the name under which it stands how far the column has come.

    Whoever chooses to have it sealed after it was looked at has it looked at again.
    """
    name = f"{table_of(column).name}.{column.name}"
    is_left = isinstance(column.type, SealedObject) and not is_chosen(keys, column)
    return name + _LEFT if is_left else name


def _reseal(conn: Connection, keys: DataKeys, column: Column[Any], *, limit: int) -> int:
    name = _named(keys, column)
    conn.execute(insert_into(conn, resealing).values(name=name).on_conflict_do_nothing())
    mine = select(resealing).where(resealing.c.name == name, resealing.c.done_at.is_(None))
    stand = conn.execute(mine.with_for_update(skip_locked=True)).one_or_none()
    if stand is None:
        return 0
    page = _page(conn, column, stand.after, limit=limit)
    old = _to_seal(conn, keys, column, page)
    sealed = sum(_write(conn, column, row, key) for row, key in old)
    values = {
        "after": _as_json(column, page[-1]) if page else stand.after,
        "looked_at": stand.looked_at + len(page),
        "sealed": stand.sealed + sealed,
        "done_at": None if page else db_now(),
    }
    conn.execute(update(resealing).where(resealing.c.name == name).values(values))
    if not page:  # whoever looks at all has looked at those, too
        covered = update(resealing).where(resealing.c.name == name + _LEFT)
        conn.execute(covered.where(resealing.c.done_at.is_(None)).values(done_at=db_now()))
    return len(page)


def _page(conn: Connection, column: Column[Any], after: Any, *, limit: int) -> Sequence[Row[Any]]:
    """Return the next rows: their keys, whose they are, and how their value begins."""
    table = table_of(column)
    key = list(table.primary_key.columns)
    begins = func.substr(_said(column), 1, _SHOWN + 1).label("begins")
    query = select(*key, *_of_owner(column), *_of_place(column), begins)
    if table.name == "attempts":
        query = query.join(turns, turns.c.id == table.c.turn_id)
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*_from_json(key, after)))
    rows: Sequence[Any] = conn.execute(query.order_by(*key).limit(limit)).all()
    return rows


def _said(column: Column[Any]) -> ColumnElement[str]:
    """Return what is sealed of a column as text, or what is plain."""
    said: ColumnElement[str] = cast(column, String)
    if isinstance(column.type, SealedObject):
        return func.coalesce(column[SEALED_IN].as_string(), said)
    return said


def _of_owner(column: Column[Any]) -> Iterator[Any]:
    """Yield whose the value is; nothing where it is the house's."""
    table = table_of(column)
    if isinstance(column.type, SealedSettings) and not column.type.user:
        return
    if table.name == "attempts":
        yield turns.c.session_id.label("owner")
    elif table.name == "sessions":
        yield table.c.id.label("owner")
    elif "session_id" in table.c:
        yield table.c.session_id.label("owner")
    elif "user_id" in table.c:
        yield func.coalesce(table.c.user_id, HOUSE).label("owner")


def _of_place(column: Column[Any]) -> Iterator[Any]:
    table = table_of(column)
    key = {one.name for one in table.primary_key.columns}
    for name in column.type.row:  # type: ignore[attr-defined]
        if name not in key:
            yield table.c[name]


def _to_seal(
    conn: Connection, keys: DataKeys, column: Column[Any], page: Iterable[Row[Any]]
) -> list[tuple[Row[Any], DataKey]]:
    """Return the rows whose value is not sealed by the newest key of whoever it belongs to."""
    said = [row for row in page if row.begins not in (None, "", "[]", "{}", "null")]
    owned = _owned(conn, keys, column, said)
    if missing := keys.missing(owner for _, owner in owned):
        raise KeyWanted(owners=missing)
    found = [(row, keys.current(owner)) for row, owner in owned]
    if isinstance(column.type, SealedObject) and not is_chosen(keys, column):
        found = [(row, key) for row, key in found if row.begins.startswith(PREFIX)]
    return [(row, key) for row, key in found if key.id not in row.begins]


def _owner_of_settings(
    conn: Connection, keys: DataKeys, column: Column[Any], row: Row[Any]
) -> str | None:
    """Return by whose key they are sealed, or are to be; None: that key is gone, and they with it.

    Those of a batch are its user's where all its lines are one user's.
    """
    if row.begins.startswith(PREFIX):
        try:
            return keys.key(key_id_of(row.begins)).user
        except DataKeyMissing:
            return None
    whose = one_user_of(conn, BatchId(row.id)) if column is batches.c.settings else None
    return HOUSE if whose is None else whose


def _owned(
    conn: Connection, keys: DataKeys, column: Column[Any], rows: Sequence[Row[Any]]
) -> list[tuple[Row[Any], Owner]]:
    ids = {row.owner for row in rows if isinstance(getattr(row, "owner", None), UUID)}
    of_sessions = owners_of(conn, keys, ids)
    found: list[tuple[Row[Any], Owner]] = []
    for row in rows:
        named = getattr(row, "owner", HOUSE)
        if isinstance(column.type, SealedSettings) and not column.type.user:
            named = _owner_of_settings(conn, keys, column, row)
        owner = Owner(named) if isinstance(named, str) else of_sessions.get(named)
        if owner is not None:
            found.append((row, owner))
    return found


def _write(conn: Connection, column: Column[Any], row: Row[Any], key: DataKey) -> int:
    """Seal one value anew, as it stands now: somebody may have written it meanwhile."""
    table = table_of(column)
    this = [one == getattr(row, one.name) for one in table.primary_key.columns]
    locked = select(column).where(*this).with_for_update(key_share=True)
    now = conn.execute(locked).one_or_none()
    if now is None or now[0] is None:
        return 0
    try:
        value = _sealed(conn, column, this, place_of(column, row), key, plain(now[0]))
    except ODD:  # what nobody can read stays as it is
        return 0
    conn.execute(update(table).where(*this).values({column.name: value}))
    return 1


def _sealed(
    conn: Connection,
    column: Column[Any],
    this: Sequence[ColumnElement[bool]],
    place: str,
    key: DataKey,
    value: Any,
) -> Any:
    """Return a value as it is to stand: of an object, what is plain stays so, or as is chosen."""
    keys = keys_at(conn.dialect)
    if keys is None or not isinstance(column.type, SealedObject):
        return seal(key, column, place, value)
    before: set[str] = set()
    if not is_chosen(keys, column):
        before.update(conn.scalar(select(type_coerce(column, Json)).where(*this)) or ())
    kept = plain_of(keys, column, value, before=before - {SEALED_IN})
    return seal_object(key, column, place, value, kept=kept)


def _as_json(column: Column[Any], row: Row[Any]) -> list[Any]:
    values = [getattr(row, one.name) for one in table_of(column).primary_key.columns]
    return [one.hex if isinstance(one, UUID) else one for one in values]


def _from_json(key: Sequence[Column[Any]], after: Sequence[Any]) -> list[Any]:
    from_hex = (
        UUID(one) if column.type.python_type is UUID else one
        for column, one in zip(key, after, strict=True)
    )
    return list(from_hex)
