"""A later version's last step: the code of today cannot run on what it leaves."""

from alembic import op

revision = "9002"
down_revision = "9001"
phase = "post"
serves = "9001"


def upgrade() -> None:
    """Apply."""
    op.drop_column("turns", "cached_tokens")


def downgrade() -> None:
    """Undo."""
    op.execute("ALTER TABLE turns ADD COLUMN cached_tokens bigint NOT NULL DEFAULT 0")
