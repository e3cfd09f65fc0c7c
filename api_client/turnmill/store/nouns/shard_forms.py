"""The forms that replies to lines in shards have to fit, as their sessions say."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Text, cast, or_, select

from turnmill.crypto.envelope import SEALED_IN
from turnmill.domain.ids import TurnId
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.vaults import plain_or_none

_FORM = "response_format"


def forms_of(conn: Connection, turn_ids: Sequence[TurnId]) -> dict[TurnId, Mapping[str, Any]]:
    """Return the schema of each of the turns whose session asks for one.

    What nobody can open any more asks for none: its user is about to be gone.
    """
    settings = cast(sessions.c.settings, Text)
    rows = conn.execute(
        select(turns.c.id, sessions.c.settings)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(
            turns.c.id.in_(list(turn_ids)),
            or_(*(settings.contains(name, autoescape=True) for name in (_FORM, SEALED_IN))),
        )
    )
    read = {TurnId(row.id): plain_or_none(row.settings) or {} for row in rows}
    forms = {turn_id: found.get(_FORM) for turn_id, found in read.items()}
    return {turn_id: one for turn_id, one in forms.items() if isinstance(one, Mapping)}
