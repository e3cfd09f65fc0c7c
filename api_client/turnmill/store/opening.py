"""Opening what a claim brings: what is sealed of it, for the session and the user that it is of."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from turnmill.crypto.envelope import PREFIX, is_sealed, key_id_of
from turnmill.domain.errors import SealBroken
from turnmill.store.vaults import no_keys

if TYPE_CHECKING:
    from turnmill.crypto.data_keys import DataKeys

_PLACED = 4


def opened_claim(
    keys: "DataKeys | None", ids: Sequence[UUID], user: str, brought: tuple[str | None, Any, str]
) -> tuple[str | None, Any, str]:
    """Return prompt, what is said, and history of a claim as they were said.

    `ids` are those of turn and session. Raises KeyWanted, DataKeyMissing, or SealBroken.
    """
    turn_id, session_id = ids
    prompt, said, history = brought
    opening = Opening(keys, session_id, user)
    return opening.prompt(prompt), opening.said(turn_id, said), opening.history(history)


class Opening:
    """Opens values of one session. Everything raises KeyWanted, DataKeyMissing, or SealBroken."""

    __slots__ = ("_keys", "_session", "_user")

    def __init__(self, keys: "DataKeys | None", session_id: UUID, user: str | None) -> None:
        """`user` is whose session it is; None: it is not looked at."""
        self._keys = keys
        self._session = session_id
        self._user = user

    def prompt(self, value: str | None) -> str | None:
        """Return the system prompt."""
        if value is None or not is_sealed(value):
            return value
        return self._open(value, "sessions", "system_prompt", self._session.hex).decode()

    def said(self, turn_id: UUID, rows: Any) -> Any:
        """Return rows of (role, content, position) of a turn with their content opened."""
        if not any(isinstance(row[1], str) for row in rows):
            return rows
        turn = turn_id.hex
        return [
            (role, json.loads(self._message(content, turn, position)), position)
            if isinstance(content, str)
            else (role, content, position)
            for role, content, position in rows
        ]

    def history(self, rows: str) -> str:
        """Return a JSON array of [role, content, turn, position] as one of [role, content]."""
        found = json.loads(rows)
        return f"[{','.join([self._entry(row) for row in found])}]"

    def _entry(self, row: Sequence[Any]) -> str:
        """Return [role, content] as JSON; what was sealed is JSON already."""
        content = row[1]
        if not isinstance(content, str):
            return json.dumps(row[:2])
        if len(row) < _PLACED:
            raise no_keys()
        role, _, turn, position = row
        return f'["{role}",{self._message(content, turn.replace("-", ""), position).decode()}]'

    def _message(self, sealed: str, turn: str, position: int) -> bytes:
        place = f"{self._session.hex}/{turn}/{position}"
        return self._open(sealed, "messages", "content", place)

    def _open(self, sealed: str, table: str, column: str, place: str) -> bytes:
        if not sealed.startswith(PREFIX):
            raise TypeError("content is a list of parts, or sealed")
        if self._keys is None:
            raise no_keys()
        key = self._keys.key(key_id_of(sealed))
        if self._user is not None and key.user != self._user:
            raise SealBroken(f"{table}.{column}: the value was sealed for another user")
        return key.open(sealed, table=table, place=place, column=column)
