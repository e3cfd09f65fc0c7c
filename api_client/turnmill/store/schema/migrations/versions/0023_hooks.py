"""Who wants to hear of what: subscriptions, observers that sessions name, webhooks."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0023"
down_revision = "0022"
phase = "pre"
serves = "0007"

_DUE = sa.text("due_at IS NOT NULL")


def upgrade() -> None:
    """Apply; code of before writes endings, as ever, and no events of other kinds."""
    op.add_column("event_readers", sa.Column("parked_because", sa.Text(), nullable=True))
    op.add_column("batches", sa.Column("told_at", Timestamp(), nullable=True))
    op.add_column(
        "batches", sa.Column("events", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.create_table(
        "subscriptions",
        sa.Column("subscriber", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subscriber", "kind", name="pk_subscriptions"),
    )
    op.create_table(
        "observed",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("observer", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "observer", name="pk_observed"),
    )
    _create_webhooks()
    _create_deliveries()


def downgrade() -> None:
    """Undo."""
    op.drop_table("deliveries")
    op.drop_table("webhooks")
    op.drop_table("observed")
    op.drop_table("subscriptions")
    with op.batch_alter_table("batches") as batch_op:
        batch_op.drop_column("events")
        batch_op.drop_column("told_at")
    with op.batch_alter_table("event_readers") as batch_op:
        batch_op.drop_column("parked_because")


def _create_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("kinds", Json, nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("old_secret", sa.Text(), nullable=True),
        sa.Column("old_until", Timestamp(), nullable=True),
        sa.Column("include_content", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("parked_at", Timestamp(), nullable=True),
        sa.Column("parked_because", sa.Text(), nullable=True),
        sa.Column("missed", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("events", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", Timestamp(), nullable=False),
        sa.Column("budget_id", sa.Uuid(), nullable=True),
        sa.Column("share", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False, server_default="due"),
        sa.Column("due_at", Timestamp(), nullable=True, server_default=db_now()),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("first_at", Timestamp(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("took_ms", sa.Integer(), nullable=True),
        sa.Column("ended_at", Timestamp(), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name="fk_deliveries_webhook_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.UniqueConstraint(
            "webhook_id", "session_id", "n", name="uq_deliveries_webhook_id_session_id_n"
        ),
        sa.CheckConstraint(
            "state IN ('due', 'delivered', 'parked')", name=op.f("ck_deliveries_state_known")
        ),
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["webhook_id", "due_at"],
        postgresql_where=_DUE,
        sqlite_where=_DUE,
    )
