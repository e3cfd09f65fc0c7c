"""The tables of the audit log: who did what to whose data, and the chain that holds it together.

Rows are written and never changed; Postgres refuses it to everybody but the superuser. A person is
named by a pseudonym, and `audit_subjects` alone says whose it is: erasing somebody takes that row
away, and not one of the log.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, text

from turnmill.store.schema.topic_tables import metadata as metadata  # whole with these only
from turnmill.store.types import Json, Timestamp

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("at", Timestamp, nullable=False),
    Column("actor", Text, nullable=False),  # as the process says
    Column("login", Text, nullable=False),  # the role of Postgres, which Postgres holds it to
    Column("action", Text, nullable=False),
    Column("subject", Text),  # a pseudonym; NULL: nobody's data
    Column("objects", Json, nullable=False, server_default=text("'{}'")),  # ids, by what they are
    Column("figures", Json, nullable=False, server_default=text("'{}'")),
    Column("after", BigInteger),  # the newest row that stood when it was written
    Column("digest", Text, nullable=False),  # of all of the above
)
Index(
    "ix_audit_log_subject",
    audit_log.c.subject,
    audit_log.c.id,
    postgresql_where=text("subject IS NOT NULL"),
    sqlite_where=text("subject IS NOT NULL"),
)

# One row for each group of rows, from the one after the group before it up to `last_id`.
audit_heads = Table(
    "audit_heads",
    metadata,
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("last_id", BigInteger, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("rows_digest", Text, nullable=False),
    Column("before", Text, nullable=False),  # the hash of the group before
    Column("at", Timestamp, nullable=False),
    Column("hash", Text, nullable=False),
)

# The pseudonym is made of the user's id by the key, so that nobody can say it is somebody else's.
audit_subjects = Table(
    "audit_subjects",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("user_id", Text, nullable=False, unique=True),
    Column("key", Text, nullable=False),
)
