"""Wrapped data keys in rows: of a database of their own, or of that of conversations."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, or_, select, update
from sqlalchemy.schema import CreateSchema

from turnmill.crypto.key_store import Forgotten, WrappedKey, welcome
from turnmill.domain.errors import DataKeyMissing, StoreError
from turnmill.domain.ids import hash_of_user
from turnmill.store.database import Database
from turnmill.store.schema.key_tables import data_keys, erasure_notes
from turnmill.store.types import insert_into, lock_table

_PAGE = 500


def has_keys(conn: Connection) -> bool:
    """Tell whether this database holds data keys."""
    return conn.execute(select(data_keys.c.id).limit(1)).first() is not None


class RowKeys:
    """Keys in the tables of a database."""

    def __init__(
        self,
        database: Database,
        *,
        apart: bool,
        keeps: timedelta | None = None,
        makes_tables: bool = True,
    ) -> None:
        """`apart`: it is not the database of conversations, and is not dumped with them.

        `keeps` is for how long backups of it are kept; None: there are none.
        """
        self.apart = apart
        self._database = database
        self._keeps = keeps
        self._is_there = not makes_tables

    def get(self, *, ids: Collection[str] = (), users: Collection[str] = ()) -> list[WrappedKey]:
        """Return the keys with these ids, and all of these users."""
        which = or_(data_keys.c.id.in_(list(ids)), data_keys.c.user_id.in_(list(users)))
        with self._begun() as conn:
            return [_key(row) for row in conn.execute(select(data_keys).where(which))]

    def add(self, keys: Sequence[WrappedKey]) -> None:
        """Keep keys, unless there is one of that version."""
        with self._begun() as conn:
            # Who notes an erasure waits for us, and we for him: see `note_erasure`.
            conn.execute(lock_table(data_keys, shared=True))
            rows = _rows(welcome(keys, _notes_on(conn, keys)))
            if rows:
                conn.execute(insert_into(conn, data_keys).on_conflict_do_nothing(), rows)

    def drop(self, ids: Collection[str]) -> int:
        """Delete these rows."""
        with self._begun() as conn:
            gone: int = conn.execute(
                delete(data_keys).where(data_keys.c.id.in_(list(ids)))
            ).rowcount
            return gone

    def rewrap(self, key: WrappedKey, *, was: str) -> bool:
        """Keep it as it is wrapped now."""
        mine = update(data_keys).where(data_keys.c.id == key.id, data_keys.c.wrapped_by == was)
        with self._begun() as conn:
            values = {"wrapped": key.wrapped, "wrapped_by": key.wrapped_by}
            return bool(conn.execute(mine.values(values)).rowcount)

    def forget(self, user: str) -> Forgotten:
        """Delete the user's rows."""
        with self._begun() as conn:
            gone = conn.execute(delete(data_keys).where(data_keys.c.user_id == user)).rowcount
        now = datetime.now(UTC)
        until = now + self._keeps if self.apart and self._keeps is not None and gone else None
        return Forgotten(keys=gone, at=now, apart=self.apart, readable_until=until)

    def ls(self) -> Iterator[WrappedKey]:
        """Yield all keys."""
        after = ""
        while True:
            page = select(data_keys).where(data_keys.c.id > after).order_by(data_keys.c.id)
            with self._begun() as conn:
                rows = conn.execute(page.limit(_PAGE)).all()
            if not rows:
                return
            yield from map(_key, rows)
            after = rows[-1].id

    def note_erasure(self, erasure_id: str, document: str) -> None:
        """Keep a note of an erasure; whoever keeps keys at this moment has ended before."""
        with self._begun() as conn:
            conn.execute(lock_table(data_keys))
            new = insert_into(conn, erasure_notes).values(id=erasure_id, document=document)
            conn.execute(
                new.on_conflict_do_update(
                    index_elements=[erasure_notes.c.id], set_={"document": document}
                )
            )

    def erasures(self) -> Iterator[tuple[str, str]]:
        """Yield the erasures that were noted."""
        with self._begun() as conn:
            rows = conn.execute(select(erasure_notes).order_by(erasure_notes.c.at)).all()
        yield from ((row.id, row.document) for row in rows)

    def close(self) -> None:
        """Give all connections back."""
        self._database.close()

    @contextmanager
    def _begun(self) -> Iterator[Any]:
        try:
            if not self._is_there:
                self._make_tables()
            with self._database.begin() as conn:
                yield conn
        except StoreError as error:
            raise DataKeyMissing(f"the key store: {error}", hint=error.hint or None) from None

    def _make_tables(self) -> None:
        """Make what is not there yet; somebody else may do so at this moment."""
        for is_last in (False, True):
            try:
                with self._database.begin() as conn:
                    if self._database.schema is not None:
                        conn.execute(CreateSchema(self._database.schema, if_not_exists=True))
                    for one in (data_keys, erasure_notes):
                        one.create(conn, checkfirst=True)
            except StoreError:
                if is_last:
                    raise
            else:
                break
        self._is_there = True


def _rows(keys: Sequence[WrappedKey]) -> list[dict[str, Any]]:
    return [
        {
            "id": one.id,
            "user_id": one.user,
            "scope": one.scope,
            "version": one.version,
            "wrapped_by": one.wrapped_by,
            "wrapped": one.wrapped,
        }
        for one in keys
    ]


def _notes_on(conn: Connection, keys: Sequence[WrappedKey]) -> dict[str, str]:
    """Return the notes of erasures of these keys' users, by their hashes."""
    users = {hash_of_user(one.user) for one in keys}
    found = conn.execute(select(erasure_notes).where(erasure_notes.c.id.in_(users)))
    return {row.id: row.document for row in found}


def _key(row: Any) -> WrappedKey:
    return WrappedKey(
        id=row.id,
        user=row.user_id,
        scope=row.scope,
        version=row.version,
        wrapped_by=row.wrapped_by,
        wrapped=bytes(row.wrapped),
        created_at=row.created_at,
    )
