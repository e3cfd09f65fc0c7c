"""The audit log: `client.audit`, and verbs whose doing, or reading, is written down in it."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from turnmill.actor import actor_of
from turnmill.domain.arguments import one_of, page_size, whole
from turnmill.domain.auditing import Action
from turnmill.domain.errors import InvalidInput
from turnmill.domain.plain import text_of
from turnmill.domain.states import ErasureState
from turnmill.settings import Settings
from turnmill.store.audit_records import AuditCheck, AuditEntry, AuditHead
from turnmill.store.nouns import audit_chain, audit_entries
from turnmill.store.nouns.audit import audited, owners
from turnmill.store.nouns.erasures import state_of
from turnmill.verbs import intake
from turnmill.verbs.refs import session_id
from turnmill.verbs.verb import Connection, Deed, Effect, Shown, Verb, single, transaction

T = TypeVar("T")

_MOST = 2**63 - 1
_CHECKPOINT = re.compile(r"(\d{1,18}):([0-9a-f]{64})")


def noted(verb: Verb[T], settings: Settings) -> Verb[T]:
    """Return the verb that writes down, before it returns anything, whose content it has read."""
    shows, actor = verb.shows, actor_of(settings)
    assert shows is not None

    def on(conn: Connection) -> Effect[T]:
        effect = verb.on(conn)
        _note(conn, shows, shows.ids(effect.result), actor)
        return effect

    return transaction(on, does=verb.does)


def _note(conn: Connection, shows: Shown, ids: Collection[Any], actor: str) -> None:
    """Write one row for each user: which turn or session it was, or how many."""
    of_user = defaultdict(list)
    whose = {one: one for one in ids} if shows.by == "user" else owners(conn, shows.by, ids)
    for one in ids:
        of_user[whose.get(one)].append(one)
    for user_id, mine in of_user.items():
        is_one = len(mine) == 1 and shows.by != "user"
        audited(
            conn,
            Action.CONTENT_READ,
            actor=actor,
            user_id=user_id,
            objects={shows.by: mine[0]} if is_one else None,
            figures={"what": shows.what} | ({} if len(mine) == 1 else {f"{shows.by}s": len(mine)}),
        )


def stated(
    action: Action,
    settings: Settings,
    *,
    user_id: str | None = None,
    figures: Mapping[str, int | str | bool | None] | None = None,
) -> Verb[int]:
    """Write down what is about to be done outside of the database, an export say."""
    actor = actor_of(settings)

    def on(conn: Connection) -> Effect[int]:
        return Effect(audited(conn, action, actor=actor, user_id=user_id, figures=figures))

    return transaction(on)


def of_user(
    verb: Verb[T],
    action: Action,
    *,
    actor: str,
    user_id: str,
    when: Callable[[T], bool] = lambda _: True,
) -> Verb[T]:
    """Return the verb that is written down with what it does, where `when` says of what it came to.

    It is done to the data of this user.
    """

    def on(conn: Connection) -> Effect[T]:
        effect = verb.on(conn)
        if when(effect.result):
            audited(conn, action, actor=actor, user_id=user_id)
        return effect

    return transaction(on)


def written_down(verb: Verb[T], *, actor: str) -> Verb[T]:
    """Return the verb that is written down with what it does, as its `does` has it.

    Whose data it was is looked up before: what is done may leave nothing that tells.
    """
    deed = verb.does
    assert deed is not None

    def on(conn: Connection) -> Effect[T]:
        of, whose = _done_to(conn, deed)
        effect = verb.on(conn)
        if effect.changed and deed.when(effect.result):
            action, figures = Action(deed.action), deed.figures
            of |= deed.made(effect.result)
            audited(conn, action, actor=actor, user_id=whose, objects=of, figures=figures)
        return effect

    return transaction(on)


def _done_to(conn: Connection, deed: Deed) -> tuple[dict[str, object], str | None]:
    of: dict[str, object] = dict(deed.objects)
    whose = None if deed.whose is None else _unless_erased(conn, deed.whose(conn))
    if deed.turn is not None:
        of["turn"] = deed.turn
        whose = owners(conn, "turn", [deed.turn]).get(deed.turn)
    if deed.session is not None:
        of["session"] = session = session_id(conn, deed.session)
        whose = owners(conn, "session", [session]).get(session)
    return of, whose


def _unless_erased(conn: Connection, user_id: str | None) -> str | None:
    """Return the user, or None for one who was erased: the log would have a name of his again."""
    if user_id is None or state_of(conn, user_id) is ErasureState.ERASED:
        return None
    return user_id


def find(
    *, user_id: object, action: object, after: object, limit: object
) -> Verb[list[AuditEntry]]:
    """Read a page of the log, newest first."""
    filters: dict[str, Any] = {
        "user_id": intake.name_or_none(user_id, name="user_id"),
        "action": None if action is None else one_of(Action, action, name="action"),
        "before": None if after is None else whole(after, name="after", most=_MOST),
        "limit": page_size(limit),
    }
    return single(lambda conn: Effect(audit_entries.find(conn, **filters)))


def verify(checkpoint: object) -> Verb[AuditCheck]:
    """Look at the whole log; at a head that was exported, too."""
    wanted = None if checkpoint is None else _checkpoint(checkpoint)
    return transaction(lambda conn: Effect(audit_chain.verify(conn, checkpoint=wanted)))


def checkpoint() -> Verb[AuditHead | None]:
    """Take what was written into the chain, and return its head; None for an empty log."""

    def on(conn: Connection) -> Effect[AuditHead | None]:
        while audit_chain.chain(conn):
            pass
        return Effect(audit_chain.head(conn))

    return transaction(on)


def _checkpoint(value: object) -> tuple[int, str]:
    given = str(value) if isinstance(value, AuditHead) else text_of(value)
    found = None if given is None else _CHECKPOINT.fullmatch(given.strip())
    if found is None:
        raise InvalidInput(
            "checkpoint must be a head of the audit log",
            hint="NUMBER:HASH, as `turnmill audit checkpoint` prints it",
        )
    return int(found[1]), found[2]
