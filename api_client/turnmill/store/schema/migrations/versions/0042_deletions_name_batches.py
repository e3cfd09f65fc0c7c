"""What is left of a session says in which batches at vendors its lines may stand."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import Json

revision = "0042"
down_revision = "0041"
phase = "pre"
serves = "0007"


def upgrade() -> None:
    """Apply; code of before goes on."""
    op.add_column("tombstones", sa.Column("batches", Json, nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("tombstones", "batches")
