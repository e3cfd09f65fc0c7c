"""Set-ups of sessions have names and versions, and a session says which one it was made from."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0024"
down_revision = "0023"
phase = "pre"
serves = "0007"

_MADE_FROM_ONE = sa.text("template IS NOT NULL")


def upgrade() -> None:
    """Apply; code of before goes on, and makes sessions without templates."""
    op.create_table(
        "templates",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("current", sa.Integer(), nullable=False),
        sa.Column("latest", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_templates"),
        sa.CheckConstraint(
            "current BETWEEN 1 AND latest", name=op.f("ck_templates_current_exists")
        ),
    )
    op.create_table(
        "template_versions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("definition", Json, nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("name", "version", name="pk_template_versions"),
    )
    op.add_column("sessions", sa.Column("template", sa.Text(), nullable=True))
    op.add_column("sessions", sa.Column("template_version", sa.Integer(), nullable=True))
    op.create_index(
        "ix_sessions_template",
        "sessions",
        ["template", "template_version", "id"],
        postgresql_where=_MADE_FROM_ONE,
        sqlite_where=_MADE_FROM_ONE,
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_sessions_template", table_name="sessions")
    op.drop_column("sessions", "template_version")
    op.drop_column("sessions", "template")
    op.drop_table("template_versions")
    op.drop_table("templates")
