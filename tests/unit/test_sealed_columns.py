"""Every column of content opens what was sealed for its own row, column and user, and no other."""

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from sqlalchemy import Column, MetaData, Table, Text, Uuid, create_engine, delete, insert, select

from tests.keyed import at_hand
from turnmill.crypto.envelope import SEALED_IN
from turnmill.crypto.sealing import DataKey
from turnmill.crypto.wanted import HOUSE, Owner
from turnmill.domain.errors import SealBroken
from turnmill.new_ids import new_id
from turnmill.store.rules.sealing import seal, seal_object
from turnmill.store.schema.secrecy import BY_CHOICE, CONTENT
from turnmill.store.sealed_types import SealedJson, SealedObject, SealedSettings
from turnmill.store.vaults import Unopened, attach

COLUMNS = (*CONTENT, *BY_CHOICE)
SAID: dict[type, Any] = {
    SealedJson: [{"type": "text"}],
    SealedObject: {"a": "b"},
    SealedSettings: {"a": "b"},
}


class Row(NamedTuple):
    """What names a row and its user, in any of the tables."""

    user: str
    session: UUID
    ids: dict[str, Any]

    def key(self, column: Column[Any]) -> Any:
        if column.name == "session_id":
            return self.session
        if column.name == "user_id":
            return self.user
        kind = "id" if isinstance(column.type, Uuid) else "name"
        return self.ids[kind if isinstance(column.type, (Uuid, Text)) else "number"]


def row_of(user: str, session: UUID, number: int) -> Row:
    return Row(user, session, {"id": new_id(), "name": f"row {number}", "number": number})


def written(key: Any) -> str:
    """Return a part of a row's name as its place has it."""
    if isinstance(key, UUID):
        return key.hex
    return key.encode().hex() if isinstance(key, str) else str(key)


class Lab:
    """A table with the columns by which one column of content is bound, and the column itself."""

    def __init__(self, column: Column[Any]) -> None:
        self.column, self.kind = column, column.type
        bound: Any = column.type
        self.names = tuple(bound.row)
        of = (*self.names, *([bound.user] if bound.user not in ("", *self.names) else []))
        made = MetaData()
        self.sessions = Table("sessions", made, Column("id", Uuid), Column("user_id", Text))
        columns = [Column(name, column.table.c[name].type) for name in of]
        self.rows = Table("rows", made, *columns, Column("value", self.kind))
        self.engine = create_engine("sqlite://").execution_options(
            schema_translate_map={"turnmill": None}
        )
        made.create_all(self.engine)
        self.keys = at_hand()
        attach(self.engine.dialect, self.keys)
        self.bound_to_user = bool(bound.user)

    def key_of(self, row: Row) -> DataKey:
        of_somebody = self.bound_to_user or isinstance(self.kind, SealedObject)
        return self.keys.current(Owner(row.user if of_somebody else HOUSE))

    def sealed(self, row: Row, *, column: Column[Any], key: DataKey | None = None) -> Any:
        """Return what would stand in this row of a column, in the shape of the one looked at."""
        chosen, place = key or self.key_of(row), self.place(row)
        if isinstance(self.kind, SealedObject):
            sealed = seal_object(chosen, column, place, SAID[SealedObject], kept={})
            assert sealed.keys() == {SEALED_IN}
            return sealed
        shaped: Any = column.type
        said = SAID.get(type(self.kind), "said")
        if type(shaped) is type(self.kind):
            return seal(chosen, column, place, said)
        names = {"table": shaped.table_name, "column": shaped.column_name}
        return chosen.seal(b'"said"', place=place, **names)

    def place(self, row: Row) -> str:
        return "/".join(written(row.key(self.column.table.c[name])) for name in self.names)

    def read(self, row: Row, value: Any) -> Any:
        """Put a value into a row, whatever it was sealed for, and return what is read there."""
        told = {one.name: row.key(one) for one in self.rows.c if one.name != "value"}
        with self.engine.begin() as conn:
            conn.execute(delete(self.rows))
            conn.execute(delete(self.sessions))
            conn.execute(insert(self.sessions).values(id=row.session, user_id=row.user))
            conn.execute(insert(self.rows).values(**told, value=value))
            return conn.execute(select(self.rows.c.value)).scalar_one()


@pytest.fixture(params=COLUMNS, ids=lambda one: f"{one.table.name}.{one.name}")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    found = Lab(request.param)
    yield found
    attach(found.engine.dialect, None)
    found.engine.dispose()


def test_a_value_opens_in_its_own_place_and_is_refused_in_every_other(lab: Lab) -> None:
    hers, his = new_id(), new_id()
    rows = [row_of("ada", hers, 1), row_of("ada", hers, 2), row_of("bob", his, 3)]
    for source in rows:
        sealed = lab.sealed(source, column=lab.column)
        for target in rows:
            found = lab.read(target, sealed)
            if source is target:
                assert found == SAID.get(type(lab.kind), "said")
            else:
                refused(found, lab.column)


def test_a_value_of_another_column_or_key_is_refused_in_the_same_row(lab: Lab) -> None:
    row = row_of("ada", new_id(), 1)
    ours: Any = lab.kind
    for column in COLUMNS:
        theirs: Any = column.type
        if (theirs.table_name, theirs.column_name) != (ours.table_name, ours.column_name):
            refused(lab.read(row, lab.sealed(row, column=column)), lab.column)
    if lab.bound_to_user:
        bobs = lab.keys.current(Owner("bob"))
        refused(lab.read(row, lab.sealed(row, column=lab.column, key=bobs)), lab.column)


def refused(found: Any, column: Column[Any]) -> None:
    kind: Any = column.type
    assert isinstance(found, Unopened)
    assert isinstance(found.error, SealBroken)
    assert f"{kind.table_name}.{kind.column_name}" in str(found.error)
