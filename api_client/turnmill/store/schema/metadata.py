"""What all tables are declared in, and how their constraints are named."""

from collections.abc import Iterable

from sqlalchemy import MetaData

from turnmill.store.schema_name import SCHEMA

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    },
)


def sql_list(words: Iterable[str]) -> str:
    """Return `('a', 'b')` for an IN condition, generated from the rules."""
    return "(" + ", ".join(f"'{word}'" for word in sorted(words)) + ")"
