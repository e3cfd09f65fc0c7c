"""The tables of templates, and of what each version of them says."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from turnmill.store.schema.file_tables import metadata as metadata  # whole with these only
from turnmill.store.schema.tables import sessions
from turnmill.store.sealed_types import SealedJson, SealedText
from turnmill.store.types import Timestamp, db_now

# Whoever adds a version, or makes another one current, holds this row's lock.
templates = Table(
    "templates",
    metadata,
    Column("name", Text, primary_key=True),
    Column("current", Integer, nullable=False),
    Column("latest", Integer, nullable=False),
    CheckConstraint("current BETWEEN 1 AND latest", name="current_exists"),
)

# Written once. Sessions hold what they took from one: no row here is needed for a turn.
template_versions = Table(
    "template_versions",
    metadata,
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column(  # what operators wrote: prompts are in it
        "definition",
        SealedJson("template_versions", "definition", row=("name", "version")),
        nullable=False,
    ),
    Column("note", SealedText("template_versions", "note", row=("name", "version"))),
    Column("created_at", Timestamp, nullable=False, server_default=db_now()),
    PrimaryKeyConstraint("name", "version"),
)

# Of the sessions that were made from one.
Index(
    "ix_sessions_template",
    sessions.c.template,
    sessions.c.template_version,
    sessions.c.id,
    postgresql_where=text("template IS NOT NULL"),
    sqlite_where=text("template IS NOT NULL"),
)
