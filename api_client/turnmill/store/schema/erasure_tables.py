"""The tables of users who are erased, or must not be."""

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import (
    DDL,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Table,
    Text,
    event,
    false,
    text,
)

from turnmill.domain.budgets import Scope
from turnmill.domain.states import ErasureState
from turnmill.store.schema.bounds import one_of
from turnmill.store.schema.life_tables import tombstones
from turnmill.store.schema.trial_tables import metadata as metadata  # whole with these only
from turnmill.store.schema_name import SCHEMA
from turnmill.store.types import Json, Timestamp, Word, db_now

#: States in which nothing can be written for the user.
BANNED_SQL = f"state IN ('{ErasureState.ERASING}', '{ErasureState.ERASED}')"
#: What no user who is erased gets a row in, again: table, and the column that names him.
BANNED_IN: Mapping[str, str] = MappingProxyType(
    {
        "attachments": "user_id",
        "batch_lines": "user_id",
        "batches": "user_id",
        "budgets": "name",
        "data_keys": "user_id",
        "feedback": "name",
        "notes": "sender",
        "participants": "name",
        "reuse_keys": "user_id",
        "sessions": "user_id",
        "turn_senders": "name",
        "user_retention": "user_id",
    }
)
#: Where only some rows of a table are users': which.
_BANNED_WHERE: Mapping[str, str] = MappingProxyType({"budgets": f"NEW.scope = '{Scope.USER}'"})

# A user who was erased, or is being, known by a hash. `user_id` stands for as long as something of
# his does, and is gone with it.
erasures = Table(
    "erasures",
    metadata,
    Column("user_hash", Text, primary_key=True),
    Column("user_id", Text),
    Column("state", Word, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("requested_at", Timestamp, nullable=False, server_default=db_now()),
    Column("due_at", Timestamp, nullable=False, server_default=db_now()),
    Column("begun_at", Timestamp),
    Column("ended_at", Timestamp),
    Column("unaware", Json),  # transactions that may not know of it; NULL: nobody has looked yet
    Column("rows", Json, nullable=False, server_default=text("'{}'")),  # by table, that went
    Column("left_behind", Json, nullable=False, server_default=text("'[]'")),  # cannot be deleted
    Column("streams_until", Timestamp),  # copies of replies may be read till then; NULL: none
    Column("shredded", Boolean, nullable=False, server_default=false()),  # no backup can be read
    Column("readable_until", Timestamp),  # when the last backup goes that can be; NULL: unknown
    one_of("state", ErasureState),
    CheckConstraint("(state IN ('waiting', 'erasing')) = (user_id IS NOT NULL)", name="names_none"),
)
Index(
    "ix_erasures_open",
    erasures.c.due_at,
    postgresql_where=text("user_id IS NOT NULL"),
    sqlite_where=text("user_id IS NOT NULL"),
)
Index(
    "ix_tombstones_user_hash",
    tombstones.c.user_hash,
    postgresql_where=text("user_hash IS NOT NULL"),
    sqlite_where=text("user_hash IS NOT NULL"),
)

# Whose data nobody may delete: somebody has to be able to look at them yet.
holds = Table(
    "holds",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("since", Timestamp, nullable=False, server_default=db_now()),
)

# On Postgres triggers made by a migration do the same, once for a statement.
_REFUSE_ON_SQLITE = f"""
CREATE TRIGGER IF NOT EXISTS refuse_erased_{{table}} BEFORE INSERT ON {{table}}
WHEN NEW.{{column}} IS NOT NULL AND {{which}} AND EXISTS (
    SELECT 1 FROM erasures WHERE user_hash = turnmill_hash_of_user(NEW.{{column}}) AND {BANNED_SQL}
) BEGIN SELECT RAISE(ABORT, 'the user was erased'); END
"""

for _table, _column in BANNED_IN.items():
    if f"{SCHEMA}.{_table}" in metadata.tables:
        _which = _BANNED_WHERE.get(_table, "TRUE")
        _refuse = _REFUSE_ON_SQLITE.format(table=_table, column=_column, which=_which)
        _ddl = DDL(_refuse).execute_if(dialect="sqlite")  # type: ignore[no-untyped-call]
        event.listen(metadata, "after_create", _ddl)
