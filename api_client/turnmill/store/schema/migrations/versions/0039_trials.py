"""Stored turns are asked again in trials, and new sessions take part in experiments."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json, Timestamp, db_now

revision = "0039"
down_revision = "0038"
phase = "pre"
serves = "0007"


def upgrade() -> None:
    """Apply; code of before goes on: it feeds no trial, whose batches are of a kind of their own."""
    _trials()
    _trial_lines()
    _experiments()


def _trials() -> None:
    op.create_table(
        "trials",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, server_default="asking"),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("judge_batch_id", sa.Uuid(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("settings", Json, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("judge", sa.Text(), nullable=False, server_default=""),
        sa.Column("since", Timestamp(), nullable=False),
        sa.Column("template", sa.Text(), nullable=True),
        sa.Column("sampled", sa.Integer(), nullable=False),
        sa.Column("left_out", Json, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("max_cost_usd", sa.Numeric(20, 10), nullable=True),
        sa.Column("judge_usd", sa.Numeric(20, 10), nullable=True),
        sa.Column("outcome", Json, nullable=True),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("ended_at", Timestamp(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_trials"),
        sa.UniqueConstraint("name", name="uq_trials_name"),
        sa.CheckConstraint(
            "state IN ('asking', 'cancelled', 'done', 'judging')",
            name=op.f("ck_trials_state_known"),
        ),
        sa.CheckConstraint(
            "(ended_at IS NULL) = (state IN ('asking', 'judging'))",
            name=op.f("ck_trials_ended_is_over"),
        ),
    )
    is_open, judged = sa.text("ended_at IS NULL"), sa.text("judge_batch_id IS NOT NULL")
    op.create_index(
        "ix_trials_open", "trials", ["id"], postgresql_where=is_open, sqlite_where=is_open
    )
    op.create_index("ix_trials_batch_id", "trials", ["batch_id"], unique=True)
    op.create_index(
        "ix_trials_judge_batch_id",
        "trials",
        ["judge_batch_id"],
        unique=True,
        postgresql_where=judged,
        sqlite_where=judged,
    )


def _trial_lines() -> None:
    op.create_table(
        "trial_lines",
        sa.Column("trial_id", sa.Uuid(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("turn_id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False, server_default="open"),
        sa.Column("claim", sa.Uuid(), nullable=True),
        sa.Column("claimed_at", Timestamp(), nullable=True),
        sa.Column("agreement", sa.Float(), nullable=True),
        sa.Column("preferred", sa.Text(), nullable=True),
        sa.Column("swayed", sa.Boolean(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("trial_id", "line", name="pk_trial_lines"),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["trials.id"], name="fk_trial_lines_trial_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint(
            "verdict IN ('failed', 'judged', 'judging', 'lost', 'missing', 'open')",
            name=op.f("ck_trial_lines_verdict_known"),
        ),
        sa.CheckConstraint(
            "agreement BETWEEN 0 AND 1", name=op.f("ck_trial_lines_agreement_is_a_share")
        ),
        sa.CheckConstraint(
            "preferred IN ('before', 'after', 'neither')",
            name=op.f("ck_trial_lines_preferred_known"),
        ),
    )
    for name in ("session_id", "turn_id", "user_id"):
        op.create_index(f"ix_trial_lines_{name}", "trial_lines", [name])


def _experiments() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("settings", Json, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("created_at", Timestamp(), nullable=False, server_default=db_now()),
        sa.Column("stopped_at", Timestamp(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_experiments"),
        sa.UniqueConstraint("name", name="uq_experiments_name"),
        sa.CheckConstraint("share > 0 AND share < 1", name=op.f("ck_experiments_share_is_a_part")),
    )
    runs = sa.text("stopped_at IS NULL")
    op.create_index(
        "uq_experiments_one_of_template",
        "experiments",
        ["template"],
        unique=True,
        postgresql_where=runs,
        sqlite_where=runs,
    )
    op.create_table(
        "session_arms",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("experiment_id", sa.Uuid(), nullable=False),
        sa.Column("arm", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_session_arms"),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name="fk_session_arms_session_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiments.id"],
            name="fk_session_arms_experiment_id",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("arm IN ('other', 'usual')", name=op.f("ck_session_arms_arm_known")),
    )
    op.create_index("ix_session_arms_experiment_id", "session_arms", ["experiment_id", "arm"])


def downgrade() -> None:
    """Undo."""
    for name in ("session_arms", "experiments", "trial_lines", "trials"):
        op.drop_table(name)
