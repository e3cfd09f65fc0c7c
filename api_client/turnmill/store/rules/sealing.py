"""Content on its way into rows: sealed for the place that it is to stand in, where keys are set."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, select

from turnmill.crypto.envelope import SEALED_IN
from turnmill.crypto.wanted import HOUSE, KeyWanted, Owner
from turnmill.domain.ids import SessionId, TurnId
from turnmill.store.schema.tables import attempts, messages, sessions, turns
from turnmill.store.sealed_types import SealedJson, SealedSettings
from turnmill.store.vaults import keys_at, plain

if TYPE_CHECKING:
    from turnmill.crypto.data_keys import DataKeys
    from turnmill.crypto.sealing import DataKey

_CONTENT = messages.c.content
_DETAIL = attempts.c.error_detail
_as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Sealer:
    """Seals what belongs to sessions, each with the key of its user."""

    def __init__(self, keys: "Mapping[SessionId, DataKey]", chosen: "DataKeys") -> None:
        """`chosen` says what is sealed by choice."""
        self._keys = keys
        self._chosen = chosen

    def messages(
        self, session_id: SessionId, turn_id: TurnId, rows: Sequence[dict[str, Any]]
    ) -> None:
        """Seal the content of rows as `codec.rows_of` makes them.

        Of a session that is gone nothing is written, and nothing stays in the rows.
        """
        within = f"{session_id.hex}/{turn_id.hex}"
        for row in rows:
            place = f"{within}/{row['position']}"
            row["content"] = self.value(session_id, _CONTENT, place, row["content"]) or []

    def detail(self, session_id: SessionId, turn_id: TurnId, fence: int, words: str) -> str | None:
        """Return a vendor's words of an attempt."""
        found: str | None = self.value(session_id, _DETAIL, f"{turn_id.hex}/{fence}", words)
        return found

    def value(self, session_id: SessionId, column: Column[Any], place: str, value: Any) -> Any:
        """Return a value of a column; None is None, and what is of a session that is gone, too."""
        key = self._keys.get(session_id)
        return None if key is None or value is None else seal(key, column, place, value)

    def object(
        self, session_id: SessionId, column: Column[Any], place: str, value: Any
    ) -> dict[str, Any]:
        """Return settings or metadata as they are to stand: sealed where that is chosen.

        What SQL goes by stays plain; of a session that is gone that alone is left.
        """
        if not value or not is_chosen(self._chosen, column):
            return dict(value)
        kept = plain_of(self._chosen, column, value)
        return seal_object(self._keys.get(session_id), column, place, value, kept=kept)

    def hashed(self, session_id: SessionId, digest: bytes) -> bytes:
        """Return a hash that only this session's user has of the same content."""
        key = self._keys.get(session_id)
        return digest if key is None else key.hashed(digest)


def sealer_for(conn: Connection, session_ids: Collection[SessionId]) -> Sealer | None:
    """Return what seals for these sessions; None where nothing is encrypted.

    Raises KeyWanted, for all of them at once, before anything is written.
    """
    keys = keys_at(conn.dialect)
    if keys is None:
        return None
    owners = owners_of(conn, keys, session_ids)
    if missing := keys.missing(owners.values()):
        raise KeyWanted(owners=missing)
    return Sealer({one: keys.current(owner) for one, owner in owners.items()}, keys)


def require_keys(conn: Connection, session_ids: Collection[SessionId]) -> None:
    """Raise KeyWanted unless what seals for these sessions is held: before anything is used up."""
    sealer_for(conn, session_ids)


class TurnSealer:
    """The same where turns are known, and not whose sessions' they are."""

    def __init__(self, sealer: Sealer, session_of: Mapping[TurnId, SessionId]) -> None:
        self._sealer = sealer
        self._session_of = session_of

    def messages(self, turn_id: TurnId, rows: Sequence[dict[str, Any]]) -> None:
        """Seal the content of rows; of a turn that is gone nothing stays in them."""
        session_id = self._session_of.get(turn_id)
        if session_id is not None:
            self._sealer.messages(session_id, turn_id, rows)
            return
        for row in rows:
            row["content"] = []


def sealer_of_turns(conn: Connection, turn_ids: Collection[TurnId]) -> TurnSealer | None:
    """Return what seals for these turns; None where nothing is encrypted. See `sealer_for`."""
    if keys_at(conn.dialect) is None:
        return None
    found = conn.execute(select(turns.c.id, turns.c.session_id).where(turns.c.id.in_(turn_ids)))
    session_of = {TurnId(row.id): SessionId(row.session_id) for row in found}
    sealer = sealer_for(conn, set(session_of.values()))
    return None if sealer is None else TurnSealer(sealer, session_of)


def is_encrypted(conn: Connection) -> bool:
    """Tell whether content is sealed on this connection."""
    return keys_at(conn.dialect) is not None


def note_owners(conn: Connection, owners: Mapping[SessionId, Owner]) -> None:
    """Say whose sessions are that have no rows yet."""
    if (keys := keys_at(conn.dialect)) is not None:
        for session_id, owner in owners.items():
            keys.note_owner(session_id, owner)


def sealed_messages(
    conn: Connection, session_id: SessionId, turn_id: TurnId, rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the rows of a turn's messages with their content as it is to stand."""
    sealer = sealer_for(conn, (session_id,)) if rows else None
    if sealer is not None:
        sealer.messages(session_id, turn_id, rows)
    return rows


def sealed_for(conn: Connection, owner: Owner, column: Column[Any], place: str, value: Any) -> Any:
    """Return a value of somebody's that belongs to no session; as it is where nothing is sealed."""
    keys = keys_at(conn.dialect)
    return (
        value if keys is None or value is None else seal(keys.current(owner), column, place, value)
    )


def require_keys_of(conn: Connection, owners: Collection[Owner]) -> None:
    """Raise KeyWanted unless what seals for these is held; for all of them at once."""
    keys = keys_at(conn.dialect)
    if keys is not None and (missing := keys.missing(owners)):
        raise KeyWanted(owners=missing)


def ready_for_file(conn: Connection, user_id: str) -> None:
    """See to it that a file of this user's can be sealed; raises KeyWanted."""
    if (keys := keys_at(conn.dialect)) is not None:
        keys.current(Owner(user_id))
        keys.note_folder(Owner(user_id))


def hashes_of_file(conn: Connection, user_id: str, digest: str) -> tuple[str, ...]:
    """Return what stands for a file's bytes: first how it is written, then how it was before."""
    keys = keys_at(conn.dialect)
    if keys is None:
        return (digest,)
    return keys.current(Owner(user_id)).hashed(bytes.fromhex(digest)).hex(), digest


def hashes_for(conn: Connection, user_id: str | None, digest: bytes) -> tuple[bytes, ...]:
    """Return the same of content of a user's, or of nobody's in particular (None)."""
    keys = keys_at(conn.dialect)
    if keys is None:
        return (digest,)
    return keys.current(Owner(HOUSE if user_id is None else user_id)).hashed(digest), digest


def sealed_of_house(conn: Connection, column: Column[Any], place: str, value: Any) -> Any:
    """Return the same of what is nobody's in particular."""
    return sealed_for(conn, Owner(HOUSE), column, place, value)


def sealed_in(
    conn: Connection, session_id: SessionId, column: Column[Any], place: str, value: Any
) -> Any:
    """Return a value that belongs to a session; as it is where nothing is sealed."""
    sealer = None if value is None else sealer_for(conn, [session_id])
    return value if sealer is None else sealer.value(session_id, column, place, value)


def seal(key: "DataKey", column: Column[Any], place: str, value: Any) -> str:
    """Return a value as it stands in this column of the row."""
    kind: Any = column.type
    value = plain(value)
    said = _as_json(value) if isinstance(kind, SealedJson) else value
    return key.seal(said.encode(), table=kind.table_name, place=place, column=kind.column_name)


def seal_object(
    key: "DataKey | None",
    column: Column[Any],
    place: str,
    value: Mapping[str, Any],
    *,
    kept: Mapping[str, Any],
) -> dict[str, Any]:
    """Return an object whose values are sealed, all in one, beside what is kept plain of it."""
    rest = {name: said for name, said in value.items() if name not in kept or kept[name] != said}
    if not rest or key is None:
        return dict(kept)
    kind: Any = column.type
    sealed = key.seal(
        _as_json(rest).encode(), table=kind.table_name, place=place, column=kind.column_name
    )
    return {**kept, SEALED_IN: sealed}


def object_in(
    conn: Connection, session_id: SessionId, column: Column[Any], place: str, value: Any
) -> dict[str, Any]:
    """Return settings or metadata that belong to a session, as they are to stand."""
    keys = keys_at(conn.dialect)
    if keys is None or not value or not is_chosen(keys, column):
        return dict(value)
    sealer = sealer_for(conn, [session_id])
    assert sealer is not None
    return sealer.object(session_id, column, place, value)


def settings_of_house(
    conn: Connection, column: Column[Any], place: str, value: Mapping[str, Any]
) -> dict[str, Any]:
    """Return settings that are nobody's in particular, as they are to stand."""
    return settings_of(conn, None, column, place, value)


def settings_of(
    conn: Connection,
    user_id: str | None,
    column: Column[Any],
    place: str,
    value: Mapping[str, Any],
) -> dict[str, Any]:
    """Return settings of a user's, or of nobody's in particular (None), as they are to stand."""
    keys = keys_at(conn.dialect)
    if keys is None or not value or not is_chosen(keys, column):
        return dict(value)
    key = keys.current(Owner(HOUSE if user_id is None else user_id))
    return seal_object(key, column, place, value, kept=plain_of(keys, column, value))


def is_chosen(keys: "DataKeys", column: Column[Any]) -> bool:
    """Tell whether this column of settings or metadata is sealed here."""
    if isinstance(column.type, SealedSettings):
        return keys.seals_settings
    return keys.plain_metadata is not None


def plain_of(
    keys: "DataKeys", column: Column[Any], value: Mapping[str, Any], *, before: Collection[str] = ()
) -> dict[str, Any]:
    """Return what stands plain of settings or metadata that are sealed.

    `before` are the keys of metadata that stand so already, where nobody here says which are to.
    """
    if isinstance(column.type, SealedSettings):
        from turnmill.domain.plain_settings import plain_settings  # noqa: PLC0415  few choose it

        return plain_settings(value)
    names = before if keys.plain_metadata is None else keys.plain_metadata
    return {name: said for name, said in value.items() if name in names}


def plain_metadata(conn: Connection, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of metadata stands plain."""
    keys = keys_at(conn.dialect)
    if keys is None or keys.plain_metadata is None:
        return dict(value)
    return {name: said for name, said in value.items() if name in keys.plain_metadata}


def owners_of(
    conn: Connection, keys: "DataKeys", session_ids: Collection[SessionId]
) -> dict[SessionId, Owner]:
    """Return whose sessions these are, without those that are gone."""
    known = {one: owner for one in session_ids if (owner := keys.owner_of(one)) is not None}
    unknown = set(session_ids) - known.keys()
    if unknown:
        found = conn.execute(
            select(sessions.c.id, sessions.c.user_id, sessions.c.key_id).where(
                sessions.c.id.in_(unknown)
            )
        )
        for row in found:
            known[row.id] = Owner(row.user_id, row.key_id or "")
            keys.note_owner(row.id, known[row.id])
    return known
