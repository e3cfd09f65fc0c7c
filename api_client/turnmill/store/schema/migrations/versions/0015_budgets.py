"""What turns may cost is bounded by budgets, from which each call takes its most beforehand."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0015"
down_revision = "0014"
phase = "pre"
serves = "0007"

_MONEY = sa.Numeric(20, 10)


def upgrade() -> None:
    """Apply; code of before goes on, and knows no budgets: they are for when all workers do."""
    op.add_column("turns", sa.Column("max_cost_usd", _MONEY, nullable=True))
    op.add_column("events", sa.Column("budget_id", sa.Uuid(), nullable=True))
    op.add_column("events", sa.Column("share", sa.Float(), nullable=True))
    op.create_table(
        "budgets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, server_default=""),
        sa.Column("value", sa.Text(), nullable=False, server_default=""),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("limit_usd", _MONEY, nullable=False),
        sa.Column("on_exceeded", sa.Text(), nullable=False),
        sa.Column("warn_at", Json, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False, server_default="1"),
        sa.Column("starts_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("ends_at", Timestamp(), nullable=True),
        sa.Column("spent_usd", _MONEY, nullable=False, server_default="0"),
        sa.Column("reserved_usd", _MONEY, nullable=False, server_default="0"),
        sa.Column("estimated_usd", _MONEY, nullable=False, server_default="0"),
        sa.Column("forgotten_usd", _MONEY, nullable=False, server_default="0"),
        sa.Column("told", sa.Float(), nullable=False, server_default="0"),
        sa.Column("tell_usd", _MONEY, nullable=True),
        sa.Column("wake_until", Timestamp(), nullable=True),
        sa.Column("last_turn_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("updated_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("id", name="pk_budgets"),
        sa.UniqueConstraint(
            "scope", "name", "value", "period", name="uq_budgets_scope_name_value_period"
        ),
        sa.CheckConstraint(
            "scope IN ('all', 'gone', 'session', 'tag', 'user')",
            name=op.f("ck_budgets_scope_known"),
        ),
        sa.CheckConstraint(
            "period IN ('day', 'month', 'total', 'turn', 'week')",
            name=op.f("ck_budgets_period_known"),
        ),
        sa.CheckConstraint(
            "on_exceeded IN ('fail', 'wait')", name=op.f("ck_budgets_on_exceeded_known")
        ),
        sa.CheckConstraint("limit_usd >= 0", name=op.f("ck_budgets_limit_is_money")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "charges",
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("budget_id", sa.Uuid(), nullable=False),
        sa.Column("period", sa.BigInteger(), nullable=False),
        sa.Column("reserved_usd", _MONEY, nullable=False),
        sa.Column("charged_usd", _MONEY, nullable=False, server_default="0"),
        sa.Column("estimated_usd", _MONEY, nullable=False, server_default="0"),
        sa.Column("at", Timestamp(), nullable=False, server_default=db_now()),
        sa.PrimaryKeyConstraint("turn_id", "fence", "budget_id", name="pk_charges"),
        sa.CheckConstraint(
            "reserved_usd >= 0 AND charged_usd >= 0", name=op.f("ck_charges_money_is_positive")
        ),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index("ix_charges_at", "charges", ["at"], postgresql_using="brin")


def downgrade() -> None:
    """Undo."""
    op.drop_table("charges")
    op.drop_table("budgets")
    op.drop_column("events", "share")
    op.drop_column("events", "budget_id")
    op.drop_column("turns", "max_cost_usd")
