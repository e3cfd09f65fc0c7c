"""Keys for tests: what a store encrypts by, and what is found in its rows."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import LargeBinary, String, cast, select

from turnmill.crypto.data_keys import DataKeys
from turnmill.crypto.held import HeldKeys
from turnmill.crypto.keyring import Keyring, new_key
from turnmill.crypto.sealing import DataKey
from turnmill.crypto.wanted import KeyWanted, Owner
from turnmill.store.database import Database
from turnmill.store.schema.key_tables import metadata
from turnmill.store.vaults import attach


class AtHand(DataKeys):
    """Keys that are fetched the moment they are missed: for tests that are about something else."""

    def key(self, key_id: str) -> DataKey:
        try:
            return super().key(key_id)
        except KeyWanted as wanted:
            self.fetch(ids=wanted.ids)
            return super().key(key_id)

    def current(self, owner: Owner) -> DataKey:
        try:
            return super().current(owner)
        except KeyWanted as wanted:
            self.fetch(owners=wanted.owners)
            return super().current(owner)

    def missing(self, owners: Any) -> set[Owner]:
        if found := super().missing(owners):
            self.fetch(owners=found)
        return set()


def at_hand(keyring: str = "") -> AtHand:
    """Return keys that nobody has to fetch."""
    return AtHand(HeldKeys(), Keyring(keyring or new_key("1")))


def in_a_file(path: Path, *names: str) -> Keyring:
    """Return a keyring in a file, with fresh master keys of these names."""
    path.write_text("".join(f"{new_key(name)}\n" for name in names or ("1",)))
    return Keyring(str(path))


@contextmanager
def encrypted(store: Database, keys: DataKeys | None = None) -> Iterator[DataKeys]:
    """Have content sealed in this store, for as long as a test takes."""
    before, store.keys = store.keys, keys or at_hand()
    attach(store.engine.dialect, store.keys)
    try:
        yield store.keys
    finally:
        store.keys = before
        attach(store.engine.dialect, before)


def rows_as_they_lie(store: Database) -> str:
    """Return every value of every table, as a dump has it."""
    found: list[Any] = []
    with store.begin() as conn:
        for table in metadata.sorted_tables:
            # Bytes come as bytes: SQLite would have them read as UTF-8.
            values = [
                one if isinstance(one.type, LargeBinary) else cast(one, String).label(one.name)
                for one in table.c
            ]
            found += [list(row) for row in conn.execute(select(*values))]
    return json.dumps(found, default=str)
