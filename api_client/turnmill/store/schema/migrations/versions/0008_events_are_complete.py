"""From now on every turn that ends has its event: the code that ended turns without them is gone."""

import sqlalchemy as sa
from alembic import op

from turnmill.store.types import db_now

revision = "0008"
down_revision = "0007"
phase = "post"
serves = "0007"


def upgrade() -> None:
    """Apply."""
    log = sa.table("event_log", sa.column("complete_since"))
    op.execute(sa.update(log).values(complete_since=db_now()))


def downgrade() -> None:
    """Go back."""
    op.execute("UPDATE event_log SET complete_since = NULL")
