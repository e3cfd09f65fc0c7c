"""People say what they think of replies."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Timestamp, db_now

revision = "0037"
down_revision = "0036"
phase = "pre"
serves = "0007"

_NAMED, _UNNAMED = sa.text("name IS NOT NULL"), sa.text("name IS NULL")
# A user who was erased has no word any more: as in the other tables that name him.
_ON = """
CREATE TRIGGER refuse_erased AFTER INSERT ON feedback
REFERENCING NEW TABLE AS given FOR EACH STATEMENT EXECUTE FUNCTION refuse_erased_name()
"""
_ON_SQLITE = """
CREATE TRIGGER refuse_erased_feedback BEFORE INSERT ON feedback
WHEN NEW.name IS NOT NULL AND EXISTS (
    SELECT 1 FROM erasures
    WHERE user_hash = turnmill_hash_of_user(NEW.name) AND state IN ('erasing', 'erased')
) BEGIN SELECT RAISE(ABORT, 'the user was erased'); END
"""


def upgrade() -> None:
    """Apply; code of before goes on, and knows of no feedback."""
    op.create_table(
        "feedback",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("score", sa.Float(53), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("changes", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("updated_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turns.id"], name="fk_feedback_turn_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("turn_id", "name", name="uq_feedback_turn_id_name"),
        sa.CheckConstraint("score BETWEEN -1 AND 1", name=op.f("ck_feedback_score_known")),
    )
    op.create_index("ix_feedback_session_id", "feedback", ["session_id"])
    op.create_index(
        "ix_feedback_name", "feedback", ["name"], postgresql_where=_NAMED, sqlite_where=_NAMED
    )
    op.create_index(
        "uq_feedback_unnamed",
        "feedback",
        ["turn_id"],
        unique=True,
        postgresql_where=_UNNAMED,
        sqlite_where=_UNNAMED,
    )
    op.execute(_ON if op.get_bind().dialect.name == "postgresql" else _ON_SQLITE)


def downgrade() -> None:
    """Undo."""
    op.drop_table("feedback")
