"""Alerts, and reports that were made."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0040"
down_revision = "0039"
phase = "pre"
serves = "0007"

_OPEN = sa.text("closed_at IS NULL")


def upgrade() -> None:
    """Apply; code of before knows of neither."""
    op.create_table(
        "alerts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("worst", sa.Float(), nullable=False),
        sa.Column("usual", sa.Float(), nullable=True),
        sa.Column("bound", sa.Float(), nullable=False),
        sa.Column("opened_at", Timestamp(), server_default=db_now(), nullable=False),
        sa.Column("seen_at", Timestamp(), server_default=db_now(), nullable=False),
        sa.Column("calm_since", Timestamp(), nullable=True),
        sa.Column("closed_at", Timestamp(), nullable=True),
        sa.CheckConstraint(
            "rule IN ('budget', 'cache', 'cost', 'failures', 'queue')",
            name=op.f("ck_alerts_rule_known"),
        ),
        sa.CheckConstraint(
            "closed_at IS NULL OR closed_at >= opened_at",
            name=op.f("ck_alerts_closes_after_it_opens"),
        ),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
    )
    op.create_index(
        "uq_alerts_open",
        "alerts",
        ["rule", "subject"],
        unique=True,
        postgresql_where=_OPEN,
        sqlite_where=_OPEN,
    )
    op.create_index("ix_alerts_closed_at", "alerts", ["closed_at"])
    op.create_table(
        "reports",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("since", Timestamp(), nullable=False),
        sa.Column("until", Timestamp(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=True),
        sa.Column("summary", Json, nullable=False),
        sa.Column("made_at", Timestamp(), server_default=db_now(), nullable=False),
        sa.CheckConstraint("since < until", name=op.f("ck_reports_a_window")),
        sa.PrimaryKeyConstraint("id", name="pk_reports"),
    )
    op.create_index("uq_reports_window", "reports", ["since", "until", "zone"], unique=True)


def downgrade() -> None:
    """Undo; what they told of is in the rows of turns."""
    op.drop_index("uq_reports_window", table_name="reports")
    op.drop_table("reports")
    op.drop_index("ix_alerts_closed_at", table_name="alerts")
    op.drop_index("uq_alerts_open", table_name="alerts")
    op.drop_table("alerts")
