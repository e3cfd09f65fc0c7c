"""Limits of providers, the permits that workers hold, and accounts that are closed."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0016"
down_revision = "0015"
phase = "pre"
serves = "0007"


def upgrade() -> None:
    """Apply; code of before goes on, and knows of no limits."""
    _create_limits()
    op.create_table(
        "permits",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("held", sa.Integer(), nullable=False),
        sa.Column("until", Timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "model", "owner", name="pk_permits"),
        sa.CheckConstraint("held > 0", name=op.f("ck_permits_held_positive")),
    )
    _create_accounts()


def downgrade() -> None:
    """Undo."""
    op.drop_table("accounts")
    op.drop_table("permits")
    op.drop_table("limits")


def _create_limits() -> None:
    op.create_table(
        "limits",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("tokens_per_minute", sa.BigInteger(), nullable=True),
        sa.Column("concurrent", sa.Integer(), nullable=True),
        sa.Column("requests_until", sa.Double(), nullable=False, server_default="0"),
        sa.Column("tokens_until", sa.Double(), nullable=False, server_default="0"),
        sa.Column("places", Json, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("provider", "account", "model", name="pk_limits"),
        sa.CheckConstraint("requests_per_minute > 0", name=op.f("ck_limits_requests_positive")),
        sa.CheckConstraint("tokens_per_minute > 0", name=op.f("ck_limits_tokens_positive")),
        sa.CheckConstraint("concurrent > 0", name=op.f("ck_limits_concurrent_positive")),
    )


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("permanent", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("n", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("times", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("closed_at", Timestamp(), nullable=True),
        sa.Column("closed_until", Timestamp(), nullable=True),
        sa.Column("probe_owner", sa.Text(), nullable=True),
        sa.Column("probe_until", Timestamp(), nullable=True),
        sa.Column("opened_at", Timestamp(), nullable=True),
        sa.Column("turn_id", sa.Uuid(), nullable=True),
        sa.Column("events", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint(
            "kind", "provider", "account", "model", name="uq_accounts_kind_provider_account_model"
        ),
        sa.CheckConstraint("kind IN ('account', 'breaker')", name=op.f("ck_accounts_kind_known")),
        sa.CheckConstraint(
            "closed_at IS NULL OR closed_until IS NOT NULL",
            name=op.f("ck_accounts_closed_has_end"),
        ),
        sa.CheckConstraint(
            "(probe_owner IS NULL) = (probe_until IS NULL)",
            name=op.f("ck_accounts_probe_is_leased"),
        ),
    )
