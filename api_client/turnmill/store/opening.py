"""Opening what a claim brings: what is sealed of it, for the session and the user that it is of."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from turnmill.crypto.envelope import BODY, PREFIX, SEALED_IN, is_sealed, key_id_of
from turnmill.crypto.wanted import Owner
from turnmill.domain.errors import SealBroken
from turnmill.store.vaults import no_keys

if TYPE_CHECKING:
    from turnmill.crypto.data_keys import DataKeys
    from turnmill.crypto.sealing import DataKey

_PLACED = 4
#: Columns that are objects.
METADATA, SETTINGS = "metadata", "settings"
#: Where a sealed value has the id of its key.
_KEY_ID = slice(len(PREFIX), BODY - 1)


def opened_claim(
    keys: "DataKeys | None", ids: Sequence[UUID], user: str, brought: tuple[str | None, Any, str]
) -> tuple[str | None, Any, str]:
    """Return prompt, what is said, and history of a claim as they were said.

    `ids` are those of turn and session. Raises KeyWanted, DataKeyMissing, or SealBroken.
    """
    turn_id, session_id = ids
    prompt, said, history = brought
    opening = Opening(keys, session_id, user)
    opened = opening.prompt(prompt), opening.said(turn_id, said), opening.history(history)
    opening.note_owner()
    return opened


def opened_object(
    keys: "DataKeys | None", ids: Sequence[UUID], user: str, of: str, found: dict[str, Any]
) -> dict[str, Any]:
    """Return a turn's metadata, or its session's settings, of which something may be sealed.

    As `opened_claim`.
    """
    sealed = found.get(SEALED_IN)
    if not isinstance(sealed, str) or not is_sealed(sealed):
        return found
    turn_id, session_id = ids
    opening = Opening(keys, session_id, user)
    opened = opening.settings(sealed) if of == SETTINGS else opening.metadata(turn_id, sealed)
    return {name: said for name, said in found.items() if name != SEALED_IN} | opened


class Opening:
    """Opens values of one session. Everything raises KeyWanted, DataKeyMissing, or SealBroken."""

    __slots__ = ("_keys", "_openers", "_owner", "_session", "_session_id", "_user")

    def __init__(self, keys: "DataKeys | None", session_id: UUID, user: str | None) -> None:
        """`user` is whose session it is; None: it is not looked at."""
        self._keys = keys
        self._session_id = session_id
        self._session = session_id.hex
        self._owner: Owner | None = None
        self._user = user
        self._openers: dict[str, Callable[[str, str], bytes]] = {}

    def note_owner(self) -> None:
        """Remember whose session it is, of which something was opened: a reply is sealed for him.

        What was opened is authenticated, so nobody has to be asked again before the reply stands.
        """
        keys, owner = self._keys, self._owner
        if keys is None or owner is None or keys.owner_of(self._session_id) is not None:
            return
        keys.note_owner(self._session_id, owner)

    def prompt(self, value: str | None) -> str | None:
        """Return the system prompt."""
        if value is None or not is_sealed(value):
            return value
        return (
            self._key(value, "sessions", "system_prompt")
            .open(value, table="sessions", column="system_prompt", place=self._session)
            .decode()
        )

    def metadata(self, turn_id: UUID, sealed: str) -> dict[str, Any]:
        """Return what is sealed of a turn's metadata."""
        return self._object(sealed, "turns", METADATA, f"{self._session}/{turn_id.hex}")

    def settings(self, sealed: str) -> dict[str, Any]:
        """Return what is sealed of the session's settings."""
        return self._object(sealed, "sessions", SETTINGS, self._session)

    def _object(self, sealed: str, table: str, column: str, place: str) -> dict[str, Any]:
        key = self._key(sealed, table, column)
        found: dict[str, Any] = json.loads(
            key.open(sealed, table=table, column=column, place=place)
        )
        return found

    def said(self, turn_id: UUID, rows: Any) -> Any:
        """Return rows of (role, content, position) of a turn with their content opened."""
        if not any(isinstance(row[1], str) for row in rows):
            return rows
        turn = turn_id.hex
        return [
            (role, json.loads(self._message(content, f"{turn}/{position}")), position)
            if isinstance(content, str)
            else (role, content, position)
            for role, content, position in rows
        ]

    def history(self, rows: str) -> str:
        """Return a JSON array of [role, content, turn, position] as one of [role, content].

        What was sealed is JSON, and goes into it as it is.
        """
        found: list[str] = []
        session, openers = self._session, self._openers
        for row in json.loads(rows):
            content = row[1]
            if not isinstance(content, str):
                found.append(json.dumps(row[:2]))
                continue
            if len(row) < _PLACED:
                raise no_keys()
            # Twenty times a turn: what `_message` does, without the calls.
            opened = openers.get(content[_KEY_ID]) or self._opener(content)
            said = opened(content, f"{session}/{row[2].replace('-', '')}/{row[3]}")
            found.append(f'["{row[0]}",{said.decode()}]')
        return f"[{','.join(found)}]"

    def _message(self, sealed: str, place: str) -> bytes:
        opened = self._openers.get(sealed[_KEY_ID]) or self._opener(sealed)
        return opened(sealed, f"{self._session}/{place}")

    def _opener(self, sealed: str) -> Callable[[str, str], bytes]:
        """Return what opens messages that are sealed by the key of this one."""
        key = self._key(sealed, "messages", "content")
        opened = key.opener("messages", "content")
        self._owner = Owner(key.user, key.scope)
        self._openers[sealed[_KEY_ID]] = opened
        return opened

    def _key(self, sealed: str, table: str, column: str) -> "DataKey":
        if not sealed.startswith(PREFIX):
            raise TypeError("content is a list of parts, or sealed")
        if self._keys is None:
            raise no_keys()
        key = self._keys.key(key_id_of(sealed))
        if self._user is not None and key.user != self._user:
            raise SealBroken(f"{table}.{column}: the value was sealed for another user")
        return key
