"""Types of columns that hold content: sealed where encryption is on, and opened as they are read.

What is sealed opens in its own row alone, so a SELECT of such a column tells the place of the row
along with it. Where a value is plain, that costs one look at its first character.
"""

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Dialect,
    FromClause,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    literal,
    select,
    type_coerce,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from turnmill.crypto.envelope import SEALED_IN, is_sealed
from turnmill.crypto.wanted import KeyWanted
from turnmill.domain.errors import DataKeyMissing, SealBroken
from turnmill.store.schema_name import SCHEMA
from turnmill.store.types import Json
from turnmill.store.vaults import MARKED, Unopened, json_opened, read_marked

logger = logging.getLogger("turnmill.store")

# What is needed of a table that is declared with these types.
_SESSIONS = Table("sessions", MetaData(schema=SCHEMA), Column("id", Uuid), Column("user_id", Text))


class _Sealed(TypeDecorator[Any]):
    """What both types have in common."""

    cache_ok = True

    def __init__(
        self, table_name: str, column_name: str, *, row: Sequence[str], user: str = ""
    ) -> None:
        """`row` are the columns that name the row's place.

        `user` is the one that names its user, `session_id` where its session does, or empty.
        """
        super().__init__()
        self.table_name = table_name
        self.column_name = column_name
        self.row = tuple(row)
        self.user = user

    def _marked(self, value: ColumnElement[Any], kind: type[FunctionElement[Any]]) -> Any:
        rows: FromClause | None = getattr(value, "table", None)
        if rows is None or any(name not in rows.c for name in self.row):
            return value
        names = [_in_hex(rows.c[name]) for name in self.row]
        return type_coerce(kind(value, self._user_of(rows), *names), self)

    def _user_of(self, rows: FromClause) -> ColumnElement[Any]:
        if not self.user:
            return literal("", String())
        if self.user != "session_id":
            return hex_of(rows.c[self.user])
        theirs = _SESSIONS.alias()
        owner = select(hex_of(theirs.c.user_id)).where(theirs.c.id == rows.c.session_id)
        return owner.correlate(rows).scalar_subquery()

    def _read(self, value: str, dialect: Dialect, load: Any) -> Any:
        try:
            return read_marked(
                value,
                dialect,
                table=self.table_name,
                column=self.column_name,
                load=load,
                checks_user=bool(self.user),
            )
        except SealBroken as error:
            logger.error("%s", error, extra={"action": "seal_broken", "code": error.code})
            return Unopened(error)
        except (DataKeyMissing, KeyWanted) as error:
            return Unopened(error)


class SealedText(_Sealed):
    """A text; one that cannot be opened is an `Unopened`."""

    impl = Text
    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> Any:
        """Ask for the place of the row, too."""
        return self._marked(column, _marked_text)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Open it."""
        if not isinstance(value, str) or not value.startswith(MARKED):
            return value
        return self._read(value, dialect, bytes.decode)


class _SealedAsJson(_Sealed):
    """What stands in a column of JSON."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Use what `types.Json` uses."""
        return Json

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """Compare as JSON does."""
        return Json.coerce_compared_value(op, value)


class SealedJson(_SealedAsJson):
    """JSON that is no string; one that cannot be opened is an `Unopened`."""

    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> Any:
        """Ask for the place of the row, too."""
        return self._marked(column, _marked_json)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Open it."""
        if not isinstance(value, str) or not value.startswith(MARKED):
            return value
        return self._read(value, dialect, json_opened)


class SealedObject(_SealedAsJson):
    """An object of JSON, of which a part may be sealed: under one key, all in one."""

    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> Any:
        """Ask for the place of the row, too."""
        return self._marked(column, _marked_object)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Open what is sealed of it; where that cannot be, all of it is an `Unopened`."""
        marked = value.get(SEALED_IN) if isinstance(value, dict) else None
        if not isinstance(marked, str):
            return value
        if not marked.startswith(MARKED):
            # A query that does not tell the place is none of ours, and is not believed silently.
            where = f"{self.table_name}.{self.column_name}"
            broken = SealBroken(f"{where}: the value was read without its place")
            return Unopened(broken) if is_sealed(marked) else value
        found = self._read(marked, dialect, json_opened)
        beside = {name: said for name, said in value.items() if name != SEALED_IN}
        if isinstance(found, Unopened):
            return Unopened(found.error, beside=beside)
        if isinstance(found, str):  # somebody's own, who has called it so
            return value | {SEALED_IN: found}
        return beside | found


class SealedSettings(SealedObject):
    """Settings: a query may go by what `PLAIN_SETTINGS` lists, and by nothing else of them.

    Where no column names a user, they are the house's.
    """

    cache_ok = True

    class Comparator(TypeDecorator.Comparator[Any], JSON.Comparator[Any]):
        """Refuses what stands sealed where that is chosen: it would be NULL there, silently."""

        def __getitem__(self, index: Any) -> Any:
            """Return what stands under a key; raises LookupError for one that may be sealed."""
            from turnmill.domain.plain_settings import PLAIN_SETTINGS  # noqa: PLC0415  few queries

            if index != SEALED_IN and index not in PLAIN_SETTINGS:
                raise LookupError(f"SQL reads the setting {index!r}, which may be sealed")
            return super().__getitem__(index)  # type: ignore[no-untyped-call]

    comparator_factory = Comparator


def _in_hex(value: Column[Any] | ColumnElement[Any]) -> ColumnElement[Any]:
    return uuid_hex(value) if isinstance(value.type, Uuid) else _named(value)


def _named(value: ColumnElement[Any]) -> ColumnElement[Any]:
    return hex_of(value) if isinstance(value.type, String) else value


class uuid_hex(FunctionElement[str]):
    """An id, in the 32 characters that both stores can write it in."""

    type = String()
    inherit_cache = True


class hex_of(FunctionElement[str]):
    """A text's bytes in hex."""

    type = String()
    inherit_cache = True


class _marked_text(FunctionElement[Any]):
    type = String()
    inherit_cache = True


class _marked_json(FunctionElement[Any]):
    type = JSON()
    inherit_cache = True


class _marked_object(FunctionElement[Any]):
    type = JSON()
    inherit_cache = True


@compiles(uuid_hex, "postgresql")
def _uuid_pg(element: uuid_hex, compiler: SQLCompiler, **kw: Any) -> str:
    return f"replace(CAST({compiler.process(element.clauses, **kw)} AS TEXT), '-', '')"


@compiles(uuid_hex, "sqlite")
def _uuid_sqlite(element: uuid_hex, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.clauses, **kw)


@compiles(hex_of, "postgresql")
def _hex_pg(element: hex_of, compiler: SQLCompiler, **kw: Any) -> str:
    inner = compiler.process(element.clauses, **kw)
    return f"encode(convert_to({inner}, 'UTF8'), 'hex')"


@compiles(hex_of, "sqlite")
def _hex_sqlite(element: hex_of, compiler: SQLCompiler, **kw: Any) -> str:
    return f"lower(hex({compiler.process(element.clauses, **kw)}))"


def _pieces(element: FunctionElement[Any], compiler: SQLCompiler, kw: Any) -> tuple[str, str, str]:
    value, user, *row = (compiler.process(one, **kw) for one in element.clauses)
    return value, user, row[0] if len(row) == 1 else ", '/', ".join(row)


@compiles(_marked_text, "postgresql")
def _text_pg(element: _marked_text, compiler: SQLCompiler, **kw: Any) -> str:
    value, user, row = _pieces(element, compiler, kw)
    marked = f"concat('tm1.', chr(31), {row}, chr(31), {user}, chr(31), {value})"
    return f"CASE WHEN starts_with({value}, 'tm1.') THEN {marked} ELSE {value} END"


@compiles(_marked_json, "postgresql")
def _json_pg(element: _marked_json, compiler: SQLCompiler, **kw: Any) -> str:
    value, user, row = _pieces(element, compiler, kw)
    marked = (
        f"to_jsonb(concat('tm1.', chr(31), {row}, chr(31), {user}, chr(31), {value} #>> '{{}}'))"
    )
    return f"CASE WHEN jsonb_typeof({value}) = 'string' THEN {marked} ELSE {value} END"


@compiles(_marked_object, "postgresql")
def _object_pg(element: _marked_object, compiler: SQLCompiler, **kw: Any) -> str:
    value, user, row = _pieces(element, compiler, kw)
    sealed = f"{value} ->> '{SEALED_IN}'"
    marked = f"to_jsonb(concat('tm1.', chr(31), {row}, chr(31), {user}, chr(31), {sealed}))"
    within = f"jsonb_set({value}, ARRAY['{SEALED_IN}'], {marked})"
    return f"CASE WHEN starts_with({sealed}, 'tm1.') THEN {within} ELSE {value} END"


def _joined(row: str, user: str, value: str) -> str:
    parts = [*row.split(", '/', ")]
    place = " || '/' || ".join(f"COALESCE({one}, '')" for one in parts)
    return (
        f"'tm1.' || char(31) || {place} || char(31) || COALESCE({user}, '') || char(31) || {value}"
    )


@compiles(_marked_text, "sqlite")
def _text_sqlite(element: _marked_text, compiler: SQLCompiler, **kw: Any) -> str:
    value, user, row = _pieces(element, compiler, kw)
    marked = _joined(row, user, value)
    return f"CASE WHEN substr({value}, 1, 4) = 'tm1.' THEN {marked} ELSE {value} END"


@compiles(_marked_json, "sqlite")
def _json_sqlite(element: _marked_json, compiler: SQLCompiler, **kw: Any) -> str:
    value, user, row = _pieces(element, compiler, kw)
    marked = _joined(row, user, f"substr({value}, 2, length({value}) - 2)")
    sealed = f"substr({value}, 1, 5) = '\"tm1.'"
    return f"CASE WHEN {sealed} THEN json_quote({marked}) ELSE {value} END"


@compiles(_marked_object, "sqlite")
def _object_sqlite(element: _marked_object, compiler: SQLCompiler, **kw: Any) -> str:
    value, user, row = _pieces(element, compiler, kw)
    sealed = f"json_extract({value}, '$.{SEALED_IN}')"
    within = f"json_set({value}, '$.{SEALED_IN}', {_joined(row, user, sealed)})"
    # What is no JSON at all is read as it is, by whoever says so.
    may_be = f"instr({value}, '\"tm1.') > 0 AND json_valid({value})"
    return f"CASE WHEN {may_be} AND substr({sealed}, 1, 4) = 'tm1.' THEN {within} ELSE {value} END"


#: The types of the columns that every session and turn has.
SYSTEM_PROMPT = SealedText("sessions", "system_prompt", row=("id",), user="user_id")
MESSAGE = SealedJson(
    "messages", "content", row=("session_id", "turn_id", "position"), user="session_id"
)
METADATA_OF_SESSION = SealedObject("sessions", "metadata", row=("id",), user="user_id")
SETTINGS = SealedSettings("sessions", "settings", row=("id",), user="user_id")
#: Of batches: whoever submits them says so of all lines.
SETTINGS_OF_BATCH = SealedSettings("batches", "settings", row=("id",))
METADATA_OF_TURN = SealedObject("turns", "metadata", row=("session_id", "id"))
ERROR_DETAIL = SealedText("attempts", "error_detail", row=("turn_id", "fence"))
