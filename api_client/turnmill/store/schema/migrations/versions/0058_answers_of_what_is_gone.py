"""Lines that have the answer of a turn are found by it, and have no hash once it is gone.

Nor have lines that came to nothing: what they said went at once.
"""

import sqlalchemy as sa
from alembic import op

revision = "0058"
down_revision = "0057"
phase = "pre"
serves = "0007"

_REUSED = sa.text("reused_from IS NOT NULL")
_TURNS = sa.table("turns", sa.column("id"))
_LINES = sa.table("batch_lines", *(sa.column(name) for name in ("state", "reused_from", "key")))
_DROPPED = 3


def upgrade() -> None:
    """Apply; of turns whose content went before, the hashes have gone with 0057."""
    op.create_index(
        "ix_batch_lines_reused_from",
        "batch_lines",
        ["reused_from"],
        postgresql_where=_REUSED,
        sqlite_where=_REUSED,
    )
    is_there = sa.select(_TURNS.c.id).where(_TURNS.c.id == _LINES.c.reused_from)
    keyed = sa.and_(_LINES.c.reused_from.is_not(None), _LINES.c.key.is_not(None))
    op.execute(sa.update(_LINES).where(keyed, ~is_there.exists()).values(key=None))
    dropped = sa.and_(_LINES.c.state == _DROPPED, _LINES.c.key.is_not(None))
    op.execute(sa.update(_LINES).where(dropped).values(key=None))


def downgrade() -> None:
    """Take the index back: what is gone is gone."""
    op.drop_index("ix_batch_lines_reused_from", "batch_lines")
