"""What is in the archive of a user: which rows, in which files, and what they are, as a schema.

It is made by the list that deletion goes by: what goes with a user is told to him.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Date,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    Select,
    SmallInteger,
    Text,
    TypeDecorator,
    Uuid,
    and_,
    cast,
    func,
    literal,
    or_,
    select,
)

from turnmill.crypto.data_keys import HELD_SECONDS, DataKeys
from turnmill.crypto.wanted import HOUSE
from turnmill.store.rules.figures import lines_of
from turnmill.store.schema.belongings import BELONGINGS, Belonging
from turnmill.store.schema.file_tables import attachments
from turnmill.store.schema.rollup_tables import FIGURES, rollups
from turnmill.store.schema.tables import messages, sessions, turns
from turnmill.store.schema.template_tables import template_versions
from turnmill.store.types import Timestamp, db_day, db_now

#: Of what is in an archive; another one where something is called otherwise than before.
FORMAT = 1
_ROWS_AT_ONCE = 500
_DAY = Column("day", Date, nullable=False)
#: Of tables that name users or sessions, those that tell nothing of the person.
LEFT_OUT: Mapping[str, str] = MappingProxyType(
    {
        "announcements": "when a worker was last told of a session: a note of the house",
        "wishes": "what an operator has asked for, and nobody has done yet",
        "tombstones": "that a session was deleted: nothing of it is left",
        "erasures": "that the user is to be erased: `turnmill users erasure` tells",
        "data_keys": "the keys that it is encrypted with, which open nothing by themselves",
        "holds": "that somebody keeps the rows from being deleted, who may not say so",
        "audit_subjects": "by which name a log of who looked at your data knows you",
    }
)
_MOMENT = {"type": "string", "format": "date-time"}
_TYPES: Sequence[tuple[Any, Mapping[str, Any]]] = (
    (Uuid, {"type": "string", "format": "uuid"}),
    (Timestamp, _MOMENT),
    (Boolean, {"type": "boolean"}),
    (Date, {"type": "string", "format": "date"}),
    (Float, {"type": "number"}),
    (Numeric, {"type": "string", "pattern": r"^-?\d+(\.\d+)?$"}),
    (LargeBinary, {"type": "string", "contentEncoding": "base64"}),
    ((BigInteger, Integer, SmallInteger), {"type": "integer"}),
    (Text, {"type": "string"}),
)


@dataclass(frozen=True, slots=True)
class Rows:
    """A file of rows."""

    name: str
    says: str  #: what it tells, for whoever opens the archive
    columns: Sequence[Column[Any]]
    of_user: Callable[[str], Select[Any]]

    @property
    def path(self) -> str:
        """Where it is in the archive."""
        return f"{self.name}.jsonl"


_SAYS: Mapping[str, str] = MappingProxyType(
    {
        "sessions": "Your conversations: when each began, which model answers in it, its settings.",
        "turns": "Each message of yours with what became of it: when it was sent and answered.",
        "messages": "What was said: by you (`user`), by the model (`assistant`), by its tools.",
        "attempts": "Each time a model was asked: which one, how long it took, what it cost.",
        "tool_calls": "Each time a model called a tool, and what became of that.",
        "compactions": "Summaries that stand for the beginning of long conversations.",
        "schedules": "What is said in your name at certain times.",
        "attachments": "Your files: their bytes are in the folder `files`, by their ids.",
        "attachment_uses": "Which message holds which file.",
        "file_usage": "How many bytes your files have together.",
        "budgets": "What your messages may cost, and have cost.",
        "charges": "What each call has cost of a budget.",
        "kept_refs": "What providers of models keep of your conversations, by their ids for it.",
        "events": "What happened to your conversations and messages, and when.",
        "observed": "Which programs are told of that.",
        "deliveries": "Which of it was sent to addresses that operators have chosen.",
        "user_retention": "For how long what you say is kept.",
        "batches": "Files of many messages that were handed in for you.",
        "batch_lines": "Their lines.",
        "participants": "Conversations that you take part in.",
        "feedback": "What was said of replies: by you, or of what was answered to you.",
        "session_topics": "What your conversations are about, by numbers of topics.",
        "trial_lines": "Messages of yours that a model was asked again, to compare its replies.",
        "session_arms": "Which of two set-ups a conversation of yours was given.",
    }
)


def archived() -> Iterator[Rows]:
    """Yield all files of rows, in the order in which somebody would read them."""
    known = {one.table.name: one for one in BELONGINGS if one.table.name not in LEFT_OUT}
    for name in [*(name for name in _SAYS if name in known), *sorted(known.keys() - _SAYS.keys())]:
        yield _of(known[name])
    figures = (rollups.c[name] for name in ("provider", "model", *FIGURES))
    says = "What your messages came to, by day and model."
    yield Rows("usage", says, (_DAY, *figures), _usage)
    version = tuple(template_versions.c)
    says = "What your conversations were set up with."
    yield Rows("templates", says, version, _templates)


def _of(one: Belonging) -> Rows:
    place = (one.session, one.turn, *one.table.primary_key)
    names = [column for column in place if column is not None]

    def of_user(user_id: str) -> Select[Any]:
        return select(*one.table.c).where(_mine(one, user_id)).order_by(*dict.fromkeys(names))

    says = _SAYS.get(one.table.name, "What else is kept of you.")
    return Rows(one.table.name, says, tuple(one.table.c), of_user)


def _mine(one: Belonging, user_id: str) -> ColumnElement[bool]:
    """Return which rows are told: the user's, and what he has said in sessions of others."""
    found = one.of_user(user_id)
    if one.table is not messages:
        return found
    turns_of_his = (
        select(sender.turn).where(sender.of_user_alone(user_id))
        for sender in BELONGINGS
        if sender.is_sender and sender.turn is not None
    )
    said = (messages.c.turn_id.in_(mine) for mine in turns_of_his)
    return or_(found, *(and_(messages.c.role == "user", one) for one in said))


def _usage(user_id: str) -> Select[Any]:
    mine = select(sessions.c.id).where(sessions.c.user_id == user_id)
    lines = lines_of(turns.c.session_id.in_(mine)).subquery().c
    keys = (db_day(lines.slot).label("day"), lines.provider, lines.model)
    # Sums are of a wider type than what they are of.
    sums = (
        cast(func.coalesce(func.sum(lines[name]), 0), rollups.c[name].type).label(name)
        for name in FIGURES
    )
    return select(*keys, *sums).group_by(*keys)


def _templates(user_id: str) -> Select[Any]:
    used = select(literal(1)).where(
        sessions.c.user_id == user_id,
        sessions.c.template == template_versions.c.name,
        sessions.c.template_version == template_versions.c.version,
    )
    order = (template_versions.c.name, template_versions.c.version)
    return select(template_versions).where(used.exists()).order_by(*order)


def schema() -> dict[str, Any]:
    """Return the JSON schema of an archive: of its manifest, and of a line of each file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://turnmill.example/user-archive-{FORMAT}.json",
        "title": "The archive of a user",
        "description": "`manifest` is of manifest.json, every other one of a line of NAME.jsonl.",
        "$defs": {"manifest": dict(_MANIFEST), **{one.name: _line(one) for one in archived()}},
    }


def _line(one: Rows) -> dict[str, Any]:
    return {
        "description": one.says,
        "type": "object",
        "properties": {column.name: _value(column) for column in one.columns},
        "required": [column.name for column in one.columns],
        "additionalProperties": False,
    }


def _value(column: Column[Any]) -> dict[str, Any]:
    of_type: Any = column.type
    if isinstance(of_type, TypeDecorator) and not isinstance(of_type, Timestamp):
        of_type = of_type.impl_instance  # encrypted or not, an archive has what was said
    for kind, told in _TYPES:
        if isinstance(of_type, kind):
            found = dict(told)
            return found | {"type": [found["type"], "null"]} if column.nullable else found
    return {}  # JSON: what it holds is its writer's


_HASH = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_COUNT = {"type": "integer", "minimum": 0}
_FILE = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "sha256": _HASH, "bytes": _COUNT, "rows": _COUNT},
    "required": ["path", "sha256", "bytes"],
    "additionalProperties": False,
}
_MANIFEST: Mapping[str, Any] = MappingProxyType(
    {
        "type": "object",
        "properties": {
            "format": {"const": FORMAT},
            "user_id": {"type": "string"},
            "as_of": _MOMENT,
            "made_by": {"type": "string"},
            "files": {"type": "array", "items": _FILE},
            "missing": {"type": "array", "items": {"type": "string", "format": "uuid"}},
            "left_out": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["format", "user_id", "as_of", "made_by", "files", "missing", "left_out"],
        "additionalProperties": False,
    }
)


def files_of(conn: Connection, user_id: str) -> list[tuple[UUID, str]]:
    """Return the user's files, and the digest of each."""
    row = attachments.c
    kept = select(row.id, row.sha256).where(
        row.user_id == user_id, row.ready, row.gone_at.is_(None)
    )
    return [(one.id, one.sha256) for one in conn.execute(kept.order_by(row.id))]


def moment_of(conn: Connection) -> datetime:
    """Return when it is, by the clock of the store."""
    return conn.execute(select(db_now())).scalar_one()


class Reading:
    """Reads rows of a user's in one transaction, and has his data keys meanwhile."""

    def __init__(self, conn: Connection, user_id: str, keys: DataKeys | None) -> None:
        self._conn = conn
        self._user_id = user_id
        self._keys = keys
        self._fetched_at = 0.0

    def rows(self, query: Select[Any]) -> Generator[Mapping[str, Any], None, None]:
        """Yield them, some at once; whoever reads no further closes it."""
        self._have_keys()
        options = {"yield_per": _ROWS_AT_ONCE}
        with self._conn.execute(query, execution_options=options) as found:
            for some in found.mappings().partitions():
                yield from (dict(row) for row in some)
                self._have_keys()

    def _have_keys(self) -> None:
        """Fetch his keys, and those of the house, before they are held no longer."""
        if self._keys is None or time.monotonic() - self._fetched_at < HELD_SECONDS / 3:
            return
        for user in (self._user_id, HOUSE):
            self._keys.hold_all_of(user)
        self._fetched_at = time.monotonic()
