"""Lanes: `client.lanes`, what waits and runs, and the brakes that an operator can put on."""

from turnmill.domain.arguments import one_of, yes_or_no
from turnmill.domain.checks import check_name
from turnmill.domain.errors import InvalidInput
from turnmill.domain.states import Lane
from turnmill.store.line import pauses as pause_rows
from turnmill.store.line.pauses import Pauses
from turnmill.store.nouns import lanes as rows
from turnmill.store.nouns.lanes import LaneLoad
from turnmill.verbs.known import refuse_unknown_provider
from turnmill.verbs.verb import Connection, Deed, Effect, Verb, single, transaction


def loads() -> Verb[list[LaneLoad]]:
    """Read what waits and runs."""
    return single(lambda conn: Effect(rows.loads(conn)))


def paused() -> Verb[Pauses]:
    """Read what is paused."""
    return single(lambda conn: Effect(pause_rows.read_pauses(conn)))


def pause(*, lane: str | None, provider: str | None, force: object) -> Verb[bool]:
    """Start none of these turns any more; False where that is so already."""
    named, is_forced = _named(lane, provider), yes_or_no(force, name="force")

    def on(conn: Connection) -> Effect[bool]:
        if provider is not None and not is_forced:
            refuse_unknown_provider(conn, provider)
        done = [pause_rows.pause(conn, kind=kind, name=name) for kind, name in named]
        return Effect(any(done), changed=any(done))

    return transaction(on, does=Deed("paused", objects=dict(named)))


def resume(*, lane: str | None, provider: str | None) -> Verb[bool]:
    """Let these turns run again; False where none of them was paused."""
    named = _named(lane, provider)

    def on(conn: Connection) -> Effect[bool]:
        done = {kind: pause_rows.resume(conn, kind=kind, name=name) for kind, name in named}
        if provider is not None and not done[pause_rows.PROVIDER]:
            refuse_unknown_provider(conn, provider)
        return Effect(any(done.values()), changed=any(done.values()))

    return transaction(on, does=Deed("resumed", objects=dict(named)))


def _named(lane: str | None, provider: str | None) -> list[tuple[str, str]]:
    found = []
    if lane is not None:
        found.append((pause_rows.LANE, one_of(Lane, lane, name="lane").value))
    if provider is not None:
        found.append((pause_rows.PROVIDER, check_name(provider, name="provider")))
    if not found:
        raise InvalidInput("nothing is named", hint="name a lane or a provider")
    return found
