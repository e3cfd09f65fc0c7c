"""Limits: `client.limits`, what providers may be asked in a minute, and at once."""

from turnmill.domain.arguments import whole, yes_or_no
from turnmill.domain.auditing import Action
from turnmill.domain.checks import check_name
from turnmill.domain.errors import InvalidInput
from turnmill.store.nouns import limits as rows
from turnmill.store.nouns.audit import audited
from turnmill.store.nouns.limits import LimitKey, LimitRecord
from turnmill.verbs.known import refuse_unknown_provider
from turnmill.verbs.verb import Connection, Effect, Verb, single, transaction

_MOST = 1_000_000_000
_MOST_TOKENS = 1_000_000_000_000


def set_limit(
    provider: object,
    model: object,
    *,
    requests_per_minute: object,
    tokens_per_minute: object,
    concurrent: object,
    force: object,
    actor: str,
) -> Verb[LimitRecord]:
    """Allow so much, and no more."""
    key = _key(provider, model)
    says = {
        "requests_per_minute": _number(requests_per_minute, "requests_per_minute", _MOST),
        "tokens_per_minute": _number(tokens_per_minute, "tokens_per_minute", _MOST_TOKENS),
        "concurrent": _number(concurrent, "concurrent", _MOST),
    }
    if all(one is None for one in says.values()):
        raise InvalidInput(
            "nothing is limited",
            hint="requests_per_minute=600, tokens_per_minute=… or concurrent=…; remove takes away",
        )

    is_forced = yes_or_no(force, name="force")

    def on(conn: Connection) -> Effect[LimitRecord]:
        if not is_forced:
            refuse_unknown_provider(conn, key.provider)
        record = rows.set_limit(conn, key, **says)
        figures = {name: one for name, one in says.items() if one is not None}
        audited(conn, Action.LIMIT_SET, actor=actor, objects=_named(key), figures=figures)
        return Effect(record)

    return transaction(on)


def get_limit(provider: object, model: object) -> Verb[LimitRecord | None]:
    """Read one that was set."""
    key = _key(provider, model)
    return single(lambda conn: Effect(rows.get_limit(conn, key)))


def list_limits() -> Verb[list[LimitRecord]]:
    """Read all, those that were learned too."""
    return single(lambda conn: Effect(rows.list_limits(conn)))


def remove_limit(provider: object, model: object, *, actor: str) -> Verb[None]:
    """Take one away."""
    key = _key(provider, model)

    def on(conn: Connection) -> Effect[None]:
        rows.remove_limit(conn, key.provider, key.model)
        audited(conn, Action.LIMIT_REMOVED, actor=actor, objects=_named(key))
        return Effect(None)

    return transaction(on)


def _key(provider: object, model: object) -> LimitKey:
    return LimitKey(
        provider=check_name(provider, name="provider"),
        model="" if model is None else check_name(model, name="model"),
    )


def _named(key: LimitKey) -> dict[str, str]:
    return {"provider": key.provider} | ({"model": key.model} if key.model else {})


def _number(value: object, name: str, most: int) -> int | None:
    return None if value is None else whole(value, name=name, most=most)
