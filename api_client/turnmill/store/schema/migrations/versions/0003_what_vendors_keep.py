"""What vendors keep, and how often an attempt was asked for."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Timestamp, db_now

revision = "0003"
down_revision = "0002"
#: Code of before goes on: it writes no ids down, and the hourly job finds what it leaves.
phase = "pre"
serves = "0001"

_UNCLOSED = sa.text("status = 'archived' AND provider_ref <> ''")
_DUE = sa.text("due_at IS NOT NULL")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "kept_refs",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=True),
        sa.Column("stored", sa.Boolean(), nullable=False),
        sa.Column("running", sa.Boolean(), nullable=False),
        sa.Column("created_at", Timestamp(), server_default=db_now(), nullable=False),
        sa.Column("unwanted_at", Timestamp(), nullable=True),
        sa.Column("due_at", Timestamp(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("session_id", "ref", name=op.f("pk_kept_refs")),
        sa.CheckConstraint(
            "(due_at IS NULL) = (unwanted_at IS NULL)", name=op.f("ck_kept_refs_unwanted_is_due")
        ),
    )
    op.create_index(
        "ix_kept_refs_due_at", "kept_refs", ["due_at"], postgresql_where=_DUE, sqlite_where=_DUE
    )
    op.add_column("attempts", sa.Column("polls", sa.Integer(), server_default="0", nullable=False))
    _remember_what_is_known()
    op.drop_index("ix_sessions_unclosed", table_name="sessions")


def downgrade() -> None:
    """Go back."""
    op.create_index(
        "ix_sessions_unclosed",
        "sessions",
        ["id"],
        postgresql_where=_UNCLOSED,
        sqlite_where=_UNCLOSED,
    )
    with op.batch_alter_table("attempts") as batch_op:
        batch_op.drop_column("polls")
    op.drop_table("kept_refs")


def _remember_what_is_known() -> None:
    """Of a chain, the last id was kept; of work in the background, the id of each turn."""
    ended = "status IN ('archived', 'deleted')"
    columns = "session_id, ref, provider, turn_id, stored, running, unwanted_at, due_at"
    now = "CURRENT_TIMESTAMP"
    if op.get_bind().dialect.name == "sqlite":
        now = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
    at = f"CASE WHEN {ended} THEN {now} END"
    op.execute(
        f"INSERT INTO kept_refs ({columns})"
        f" SELECT id, provider_ref, provider, NULL, true, false, {at}, {at}"
        " FROM sessions WHERE provider_ref <> ''"
    )
    op.execute(
        f"INSERT INTO kept_refs ({columns})"
        " SELECT s.id, t.native_ref, s.provider, t.id, true, true, NULL, NULL"
        " FROM turns t JOIN sessions s ON s.id = t.session_id"
        " WHERE t.native_ref <> '' AND t.state IN ('waiting', 'running')"
        " ON CONFLICT (session_id, ref) DO NOTHING"
    )
    # What the archived ones had is now in the rows of its own.
    op.execute(f"UPDATE sessions SET provider_ref = '' WHERE {ended} AND provider_ref <> ''")
