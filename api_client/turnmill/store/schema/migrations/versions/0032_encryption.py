"""Content may be encrypted: wrapped data keys have a table, sessions name a key of their own."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0032"
down_revision = "0030"
phase = "pre"
serves = "0007"


def upgrade() -> None:
    """Apply; code of before reads and writes what is plain, and must not meet what is sealed."""
    op.add_column("sessions", sa.Column("key_id", sa.Text(), nullable=True))
    op.create_table(
        "data_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("wrapped_by", sa.Text(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("id", name="pk_data_keys"),
        sa.UniqueConstraint(
            "user_id", "scope", "version", name="uq_data_keys_user_id_scope_version"
        ),
    )
    op.create_index("ix_data_keys_wrapped_by", "data_keys", ["wrapped_by"])
    op.create_table(
        "erasure_notes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("id", name="pk_erasure_notes"),
    )
    op.create_table(
        "resealing",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("after", Json, nullable=True),
        sa.Column("looked_at", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("sealed", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("since", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("done_at", Timestamp(), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_resealing"),
    )


def downgrade() -> None:
    """Undo; what was encrypted by then cannot be read any more."""
    op.drop_table("resealing")
    op.drop_table("erasure_notes")
    op.drop_table("data_keys")
    op.drop_column("sessions", "key_id")
