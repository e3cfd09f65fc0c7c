"""Accounts: `client.accounts`, whom nobody calls for a while, and why."""

from turnmill.domain.checks import check_name
from turnmill.domain.errors import InvalidInput
from turnmill.store.nouns import accounts as rows
from turnmill.store.nouns.accounts import AccountRecord
from turnmill.verbs.verb import Connection, Deed, Effect, Verb, single, transaction


def list_closed() -> Verb[list[AccountRecord]]:
    """Read what is closed."""
    return single(lambda conn: Effect(rows.list_closed(conn)))


def open_again(provider: object, model: object) -> Verb[int]:
    """Open all that is closed of a provider, or of one of its models."""
    named = check_name(provider, name="provider")
    only = "" if model is None else check_name(model, name="model")

    def on(conn: Connection) -> Effect[int]:
        found = rows.id_of(conn, named, only)
        if not found:
            closed = sorted({one.provider for one in rows.list_closed(conn)})
            raise InvalidInput(
                "nothing of it is closed",
                hint=f"closed are: {', '.join(closed) or 'none'}; see `turnmill accounts ls`",
            )
        return Effect(sum(rows.open_again(conn, key) for key in found))

    of = {"provider": named} | ({"model": only} if only else {})
    return transaction(on, does=Deed("account.opened", objects=of))
