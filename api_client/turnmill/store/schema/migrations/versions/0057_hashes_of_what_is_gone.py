"""Of what was said and is gone since its time was over, no hash stays."""

import sqlalchemy as sa
from alembic import op

revision = "0057"
down_revision = "0056"
phase = "pre"
serves = "0007"

_SESSIONS = sa.table("sessions", sa.column("id"), sa.column("content_gone_until"))
_TURNS = sa.table(
    "turns",
    *(sa.column(name) for name in ("id", "session_id", "finished_at", "idempotency_key")),
    sa.column("idempotency_hash", sa.LargeBinary()),
)
_LINES = sa.table("batch_lines", sa.column("turn_id"), sa.column("reused_from"), sa.column("key"))


def upgrade() -> None:
    """Apply."""
    gone = (
        sa.select(_TURNS.c.id)
        .join(_SESSIONS, _SESSIONS.c.id == _TURNS.c.session_id)
        .where(
            _SESSIONS.c.content_gone_until.is_not(None),
            _TURNS.c.finished_at <= _SESSIONS.c.content_gone_until,
        )
    )
    keyed = sa.and_(_TURNS.c.idempotency_key.is_not(None), _TURNS.c.id.in_(gone))
    op.execute(sa.update(_TURNS).where(keyed).values(idempotency_hash=b""))
    of_line = sa.func.coalesce(_LINES.c.turn_id, _LINES.c.reused_from)
    keys = sa.and_(_LINES.c.key.is_not(None), of_line.in_(gone))
    op.execute(sa.update(_LINES).where(keys).values(key=None))


def downgrade() -> None:
    """Undo nothing: what is gone is gone."""
