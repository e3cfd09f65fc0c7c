"""Alerts know a rule more: of accounts that are closed for long, or for good."""

from alembic import op

revision = "0052"
down_revision = "0051"
phase = "pre"
serves = "0007"

_BEFORE = ("budget", "cache", "cost", "failures", "queue")


def upgrade() -> None:
    """Apply; workers of before look for no alerts while one of an account is open."""
    _know_rules(("account", *_BEFORE))


def downgrade() -> None:
    """Undo; alerts of accounts go, whose events have been told."""
    op.execute("DELETE FROM alerts WHERE rule = 'account'")
    _know_rules(_BEFORE)


def _know_rules(words: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{one}'" for one in words)
    with op.batch_alter_table("alerts") as batch_op:
        batch_op.drop_constraint(op.f("ck_alerts_rule_known"), type_="check")
        batch_op.create_check_constraint(op.f("ck_alerts_rule_known"), f"rule IN ({listed})")
