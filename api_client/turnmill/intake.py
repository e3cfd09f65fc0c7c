"""Checking what callers hand in, and making records of it: shared by both clients."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Unpack
from uuid import UUID

from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import SessionId, TurnId, uuid7
from turnmill.domain.states import Lane, OnAmbiguous, OnFailure
from turnmill.domain.text import check_json, check_name, check_text
from turnmill.options import SendOptions
from turnmill.store.records import NewSession, NewTurn

_MAX_JSON = 100_000
_MAX_ATTEMPTS = 100

#: Columns that `sessions.update` may set.
UPDATABLE = frozenset(
    {
        "model",
        "system_prompt",
        "settings",
        "metadata",
        "on_failure",
        "on_ambiguous",
        "max_attempts",
        "idle_ttl",
    }
)


def new_id() -> UUID:
    """Return a fresh id that sorts by time."""
    return uuid7(unix_ms=time.time_ns() // 1_000_000, random_bits=int.from_bytes(os.urandom(10)))


def new_session(
    *,
    user_id: str,
    provider: str,
    model: str,
    key: str | None,
    max_text_bytes: int,
    system_prompt: str | None = None,
    **options: Any,
) -> NewSession:
    """Check the arguments of `sessions.create`; raises InvalidInput."""
    return NewSession(
        id=SessionId(new_id()),
        user_id=check_name(user_id, name="user_id"),
        provider=check_name(provider, name="provider"),
        model=check_name(model, name="model"),
        key=None if key is None else session_key(key),
        **session_options(
            {"system_prompt": system_prompt, **options}, max_text_bytes=max_text_bytes
        ),
    )


def session_key(key: str) -> str:
    """Return the key, or raise InvalidInput: a key that reads as an id could mean two sessions."""
    checked = check_name(key, name="key")
    if as_uuid(checked) is not None:
        raise InvalidInput("a session key must not look like a UUID", hint="add a prefix")
    return checked


def session_options(values: Mapping[str, Any], *, max_text_bytes: int) -> dict[str, Any]:
    """Check the options of a session that may be changed later; raises InvalidInput."""
    unknown = set(values) - UPDATABLE
    if unknown:
        raise InvalidInput(
            f"a session has no option {', '.join(sorted(unknown))}",
            hint=f"known: {', '.join(sorted(UPDATABLE))}",
        )
    checked = dict(values)
    if checked.get("system_prompt") is not None:
        checked["system_prompt"] = check_text(
            checked["system_prompt"], name="system_prompt", max_bytes=max_text_bytes
        )
    if "model" in checked:
        checked["model"] = check_name(checked["model"], name="model")
    for name in ("settings", "metadata"):
        if name in checked:
            checked[name] = check_json(checked[name], name=name, max_bytes=_MAX_JSON)
    return checked | _rules(checked)


def _rules(values: Mapping[str, Any]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, kind in (("on_failure", OnFailure), ("on_ambiguous", OnAmbiguous)):
        if name in values:
            checked[name] = one_of(kind, values[name], name=name)
    if "max_attempts" in values:
        checked["max_attempts"] = _attempts(values["max_attempts"])
    if values.get("idle_ttl") is not None:
        ttl = values["idle_ttl"]
        if not isinstance(ttl, timedelta) or ttl < timedelta(seconds=1):
            raise InvalidInput("idle_ttl must be a timedelta of at least a second")
    return checked


def new_turn(text: str, *, max_text_bytes: int, **options: Unpack[SendOptions]) -> NewTurn:
    """Check the arguments of `send`; raises InvalidInput."""
    return next(new_turns([text], max_text_bytes=max_text_bytes, **options))


def new_turns(
    texts: Sequence[str], *, max_text_bytes: int, **options: Unpack[SendOptions]
) -> Iterator[NewTurn]:
    """Check the arguments of `send_many`: the options now, each text when it is come to.

    Raises InvalidInput.
    """
    checked = _turn_options(**options)
    return (
        NewTurn(
            id=TurnId(new_id()),
            message_id=new_id(),
            text=check_text(text, max_bytes=max_text_bytes),
            **checked,
        )
        for text in texts
    )


def _turn_options(
    *,
    idempotency_key: str | None = None,
    lane: str = Lane.INTERACTIVE,
    deliver_at: datetime | None = None,
    expires: datetime | None = None,
    metadata: Mapping[str, Any] | None = None,
    max_attempts: int | None = None,
) -> dict[str, Any]:
    chosen = one_of(Lane, lane, name="lane")
    if chosen is Lane.QUARANTINE:
        raise InvalidInput("nothing is sent to quarantine", hint="interactive or bulk")
    return {
        "lane": chosen,
        "idempotency_key": None
        if idempotency_key is None
        else check_name(idempotency_key, name="idempotency_key"),
        "deliver_at": _aware(deliver_at, name="deliver_at"),
        "expires_at": _aware(expires, name="expires"),
        "metadata": check_json(metadata, name="metadata", max_bytes=_MAX_JSON),
        "max_attempts": None if max_attempts is None else _attempts(max_attempts),
    }


def one_of(kind: Any, value: object, *, name: str) -> Any:
    """Return the member of an enumeration, or raise InvalidInput naming all of them."""
    try:
        return kind(value)
    except ValueError:
        raise InvalidInput(f"{name} must be one of {', '.join(kind)}") from None


def as_uuid(text: str) -> UUID | None:
    """Return the UUID that the text spells, or None."""
    try:
        return UUID(text)
    except ValueError:
        return None


def turn_id(value: object) -> TurnId:
    """Return the id of a turn given as handle, UUID or text; raises InvalidInput."""
    found = getattr(value, "id", value)
    if isinstance(found, str):
        found = as_uuid(found)
    if not isinstance(found, UUID):
        raise InvalidInput("a turn is named by its id", hint="`turnmill turns ls` lists them")
    return TurnId(found)


def _attempts(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_ATTEMPTS:
        raise InvalidInput(f"max_attempts must be a whole number from 1 to {_MAX_ATTEMPTS}")
    return value


def _aware(moment: object, *, name: str) -> datetime | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InvalidInput(f"{name} must be a datetime with a time zone", hint="datetime.now(UTC)")
    return moment
