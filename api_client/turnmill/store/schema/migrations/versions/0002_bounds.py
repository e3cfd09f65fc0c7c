"""What callers hand in is bounded by the database too.

The constraints are not validated, and leave rows alone that stood before: a claim updates many rows
in one statement, and one old row must not cost its neighbours. `turnmill doctor` lists those.
SQLite cannot add a constraint to a table that stands; its bounds are kept at the door.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
phase = "pre"
serves = "0001"

_FIRST, _END = "TIMESTAMPTZ '1970-01-01 00:00:00+00'", "TIMESTAMPTZ '9000-01-01 00:00:00+00'"

#: Table → the moment at which a row was made, and the bounds.
_BOUNDS = {
    "sessions": (
        "created_at",
        "octet_length(key) <= 800 AND octet_length(user_id) <= 800"
        " AND octet_length(provider) <= 800 AND octet_length(model) <= 800"
        " AND pg_column_size(settings) <= 1000000 AND pg_column_size(metadata) <= 1000000"
        " AND max_attempts BETWEEN 1 AND 100 AND idle_seconds BETWEEN 1 AND 3153600000",
    ),
    "turns": (
        "created_at",
        "octet_length(idempotency_key) <= 800 AND octet_length(custom_id) <= 800"
        " AND pg_column_size(metadata) <= 1000000 AND max_attempts BETWEEN 1 AND 100"
        f" AND available_at >= {_FIRST} AND available_at < {_END}"
        f" AND expires_at >= {_FIRST} AND expires_at < {_END}",
    ),
    "batches": ("created_at", "octet_length(name) <= 800"),
    "pauses": ("since", "octet_length(name) <= 800"),
}


def upgrade() -> None:
    """Apply."""
    if op.get_bind().dialect.name != "postgresql":
        return
    now = op.get_bind().exec_driver_sql("SELECT clock_timestamp()::text").scalar_one()
    for table, (made_at, bounds) in _BOUNDS.items():
        op.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_within_bounds"
            f" CHECK ({made_at} < TIMESTAMPTZ '{now}' OR ({bounds})) NOT VALID"
        )


def downgrade() -> None:
    """Take back."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in _BOUNDS:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_within_bounds")
