"""Users: `client.users`, what is handed in and by what it is done."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from turnmill.domain.auditing import Action
from turnmill.domain.checks import check_name, storable
from turnmill.domain.errors import InvalidInput, UserNotFound
from turnmill.domain.plain import items_of, span_of, text_of
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.deletion_records import Erasure, ErasureReport, Hold
from turnmill.store.nouns import erasure_reports
from turnmill.store.nouns import erasures as rows
from turnmill.store.nouns import holds as hold_rows
from turnmill.store.nouns.users import is_known
from turnmill.streams.copies import Copies
from turnmill.verbs import intake
from turnmill.verbs.auditing import of_user
from turnmill.verbs.batch_files.sources import path_of
from turnmill.verbs.users.erasing import Erasing
from turnmill.verbs.users.exporting import Exporting
from turnmill.verbs.users.verifying import Verifying
from turnmill.verbs.verb import Connection, Effect, Verb, single, transaction

_LONGEST_REASON = 500
_LONGEST_GRACE = timedelta(days=3650)
_SHORTEST_WORD = 4
_MOST_WORDS = 100
_MOST_BYTES = 256 * 2**20
_HEX = 64


def erasing(database: Database, settings: Settings, copies: Copies) -> Erasing:
    """Return what erases users of this store."""
    return Erasing(database, settings, copies=copies)


def exporting(database: Database, settings: Settings) -> Exporting:
    """Return what writes archives of users of this store."""
    return Exporting(database, settings)


def verifying(database: Database, settings: Settings) -> Verifying:
    """Return what looks for users in this store."""
    return Verifying(database, settings)


def user_of(user_id: object) -> str:
    """Return a user's id, or raise InvalidInput."""
    return check_name(user_id, name="user_id")


def to_be_exported(user_id: str, *, actor: str) -> Verb[bool]:
    """Find that there is something of a user, and write down that it leaves.

    Of somebody of whom nothing is there the log would know the name from then on.
    """

    def on(conn: Connection) -> Effect[bool]:
        if not is_known(conn, user_id):
            raise UserNotFound()
        return Effect(True)

    return of_user(transaction(on), Action.USER_EXPORTED, actor=actor, user_id=user_id)


def wanted(reason: object, grace: object) -> dict[str, Any]:
    """Return why and when somebody is to be erased; raises InvalidInput."""
    if grace is None:
        grace = timedelta(0)
    span = span_of(grace) if isinstance(grace, timedelta) else None
    if span is None or not timedelta(0) <= span <= _LONGEST_GRACE:
        raise InvalidInput(
            f"grace must be a timedelta of up to {_LONGEST_GRACE.days} days",
            hint="timedelta(days=30), or None: at once",
        )
    return {"reason": _words(reason, name="reason"), "grace": span}


def erasure(user_id: object) -> Verb[ErasureReport]:
    """Read what has become of a user."""
    user = user_of(user_id)
    return single(lambda conn: Effect(erasure_reports.report_of(conn, user)))


def erasures(*, after: object, limit: object) -> Verb[list[Erasure]]:
    """Read a page of erasures."""
    page = intake.listing(after=None, limit=limit)
    last = None if after is None else _hash(after)
    return single(lambda conn: Effect(rows.find(conn, after=last, limit=page["limit"])))


def withdraw(user_id: object, *, actor: str) -> Verb[bool]:
    """Take an erasure back that has not begun."""
    user = user_of(user_id)
    verb = transaction(lambda conn: Effect(rows.withdraw(conn, user)))
    return of_user(verb, Action.ERASURE_WITHDRAWN, actor=actor, user_id=user, when=bool)


def hold(user_id: object, reason: object, *, actor: str) -> Verb[Hold]:
    """Let nothing of a user be deleted."""
    user, why = user_of(user_id), _words(reason, name="reason")
    if not why.strip():
        raise InvalidInput("a hold has a reason", hint="reason='case 7'")

    def on(conn: Connection) -> Effect[Hold]:
        return Effect(hold_rows.hold(conn, user, why))

    return of_user(transaction(on), Action.USER_HELD, actor=actor, user_id=user)


def release(user_id: object, *, actor: str) -> Verb[bool]:
    """End a hold."""
    user = user_of(user_id)
    verb = transaction(lambda conn: Effect(hold_rows.release(conn, user)))
    return of_user(verb, Action.USER_RELEASED, actor=actor, user_id=user, when=bool)


def holds(*, after: object, limit: object) -> Verb[list[Hold]]:
    """Read a page of holds."""
    last = intake.name_or_none(after, name="after")
    page = intake.listing(after=None, limit=limit)
    return single(lambda conn: Effect(hold_rows.find(conn, after=last, limit=page["limit"])))


def words_of(words: object) -> Sequence[str]:
    """Return what is to be looked for within texts; raises InvalidInput."""
    listed = items_of(words, most=_MOST_WORDS) if isinstance(words, list | tuple) else None
    given = [words] if listed is None else listed
    if len(given) > _MOST_WORDS:
        raise InvalidInput(f"more than {_MOST_WORDS} words", hint="look several times")
    found = [check_name(one, name="words") for one in given]
    if any(len(one) < _SHORTEST_WORD for one in found):
        raise InvalidInput(
            f"a word has {_SHORTEST_WORD} characters at least", hint="what nobody else says"
        )
    return found


def hashes_in(path: object) -> Sequence[str]:
    """Read a file of erasures, one JSON object a line, or one document that lists them."""
    if path is None:
        return ()
    try:
        with path_of(path).open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError):
        raise InvalidInput(
            "the file cannot be read", hint="its path, and who may read it"
        ) from None
    if len(content) > _MOST_BYTES:
        raise InvalidInput(f"the file is larger than {_MOST_BYTES} bytes", hint="split it")
    return [_hash_in(line, n) for n, line in enumerate(content.splitlines(), 1) if line.strip()]


def _hash_in(line: bytes, number: int) -> str:
    try:
        return _hash(json.loads(line)["user_hash"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InvalidInput(
            f"line {number} is no erasure", hint='{"user_hash": "…"}, as `users erasures` writes it'
        ) from None


def _hash(value: object) -> str:
    text = text_of(value) or ""
    if len(text) == _HEX and not text.strip("0123456789abcdef"):
        return text
    raise InvalidInput("a user's hash is 64 hexadecimal digits", hint="`turnmill users erasures`")


def _words(value: object, *, name: str) -> str:
    text = text_of(value)
    if text is None or len(text) > _LONGEST_REASON:
        raise InvalidInput(
            f"{name} must be a text of up to {_LONGEST_REASON} characters", hint=f"{name}='asked'"
        )
    return storable(text)
