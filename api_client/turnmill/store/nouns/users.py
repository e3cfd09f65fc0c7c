"""Users: whatever names them is theirs, and nothing else is known of them."""

from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import Column, Connection, select

from turnmill.domain.ids import hash_of_user
from turnmill.store.schema.belongings import BELONGINGS, Belonging
from turnmill.store.schema.erasure_tables import erasures

#: Tables that name users for the house: that one is erased, and whom the audit log means.
_OF_THE_HOUSE = (erasures.name, "audit_subjects")
#: What names a user by itself, whatever becomes of a session.
NAMING = tuple(
    one for one in BELONGINGS if one.user is not None and one.table.name not in _OF_THE_HOUSE
)


def is_known(conn: Connection, user_id: str) -> bool:
    """Tell whether anything here is the user's."""
    return any(
        conn.execute(select(_name(one)).where(one.of_user_alone(user_id)).limit(1)).first()
        for one in NAMING
    )


def _name(one: Belonging) -> Column[Any]:
    assert one.user is not None
    return one.user


def users_by_hash(conn: Connection, hashes: Collection[str]) -> Iterator[str]:
    """Yield users of whom something is here and that these stand for."""
    seen: set[str] = set()
    for one in NAMING:
        query = select(_name(one)).distinct()
        if one.user_which is not None:
            query = query.where(one.user_which)
        for user_id in conn.scalars(query, execution_options={"yield_per": 1000}):
            if user_id is None or user_id in seen or hash_of_user(user_id) not in hashes:
                continue
            seen.add(user_id)
            yield user_id
