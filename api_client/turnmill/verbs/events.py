"""Events: `client.events`, what happened to turns, and for whom it is kept."""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from turnmill.domain.arguments import one_of, page_size, whole, yes_or_no
from turnmill.domain.bounds import LAYER_NAME
from turnmill.domain.checks import check_name
from turnmill.domain.errors import InvalidInput
from turnmill.domain.plain import items_of, text_of
from turnmill.domain.states import ENDINGS, SETTLED, EventKind
from turnmill.store.nouns import events as rows
from turnmill.store.nouns.events import Event, EventReader, Page, Share
from turnmill.verbs.refs import SessionRef, session_id
from turnmill.verbs.verb import Connection, Deed, Effect, Verb, single, transaction

_READER_NAME = re.compile(LAYER_NAME)
_MOST_PLACES = 2**62
_MOST_KINDS = 1000  #: that are asked for; there are fewer


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events somebody would read, from where on."""

    after: int | None
    reader: str | None
    session: SessionRef | None
    kinds: tuple[EventKind, ...]  #: (): all


def wanted(
    *,
    after: object,
    reader: object,
    session: SessionRef | None,
    kinds: object,
    moves: bool = False,
) -> Wanted:
    """Check what is asked for, and whether the reader may be moved. Raises InvalidInput."""
    if after is not None and reader is not None:
        raise InvalidInput("after and reader both say where to begin", hint="name one of them")
    is_some = isinstance(kinds, Collection) and not isinstance(kinds, str)
    given = items_of(kinds, most=_MOST_KINDS) if is_some else None
    if given is None or len(given) > _MOST_KINDS:
        raise InvalidInput("kinds must be a sequence of kinds", hint='kinds=["turn.failed"]')
    name = _own if moves else _named
    return Wanted(
        after=None if after is None else whole(after, name="after", least=0, most=_MOST_PLACES),
        reader=None if reader is None else name(reader),
        session=session,
        kinds=_kinds(given),
    )


def _kinds(given: Iterable[object]) -> tuple[EventKind, ...]:
    said = [(text_of(kind), kind) for kind in given]
    endings = tuple(ENDINGS) if any(word == SETTLED for word, _ in said) else ()
    others = (kind for word, kind in said if word != SETTLED)
    return endings + tuple(one_of(EventKind, kind, name="kind") for kind in others)


def page(of: Wanted, *, after: int | None, limit: object) -> Verb[Page]:
    """Read what comes after a place; None: from where it is to begin."""
    size = page_size(limit)

    def on(conn: Connection) -> Effect[Page]:
        target = None if of.session is None else session_id(conn, of.session)
        start = of.after if after is None else after
        if start is None and of.reader is not None:
            start = rows.place_of(conn, of.reader)
        found = rows.page(conn, start, session_id=target, share=Share(kinds=of.kinds), limit=size)
        return Effect(found)

    return transaction(on)


def passed(reader: object, event: object) -> Verb[None]:
    """Note that a reader is done with an event and all before it."""
    name = _own(reader)
    if not isinstance(event, Event):
        raise InvalidInput("event must be an Event", hint="one that `client.events.read` returned")
    return _doing(lambda conn: rows.passed(conn, name, event))


def moved(reader: str, upto: Event | int) -> Verb[None]:
    """Note how far a reader is that follows: it may want nothing of what comes up to a place."""
    if isinstance(upto, Event):
        return passed(reader, upto)
    name = _own(reader)
    return _doing(lambda conn: rows.passed_up_to(conn, name, upto))


def readers() -> Verb[list[EventReader]]:
    """Read for whom events are kept."""
    return single(lambda conn: Effect(rows.readers(conn)))


def add_reader(reader: object) -> Verb[None]:
    """Keep events for somebody."""
    name = _own(reader)
    return _doing(lambda conn: rows.add_reader(conn, name))


def park_reader(reader: object, *, parked: object) -> Verb[bool]:
    """Keep nothing for it alone, or again; False where it is so already."""
    name, is_parked = _named(reader), yes_or_no(parked, name="parked")
    deed = Deed("reader.parked" if is_parked else "reader.released", objects={"reader": name})

    def on(conn: Connection) -> Effect[bool]:
        done = rows.park_reader(conn, name, parked=is_parked)
        return Effect(done, changed=done)

    return transaction(on, does=deed)


def remove_reader(reader: object) -> Verb[None]:
    """Forget it."""
    name = _named(reader)
    deed = Deed("reader.removed", objects={"reader": name})
    return _doing(lambda conn: rows.remove_reader(conn, name), deed)


def _doing(act: Callable[[Connection], None], deed: Deed | None = None) -> Verb[None]:
    def on(conn: Connection) -> Effect[None]:
        act(conn)
        return Effect(None)

    return transaction(on, does=deed)


def _named(reader: object) -> str:
    return check_name(reader, name="reader")


def _own(reader: object) -> str:
    """Return the name of a reader that an application may move: those of observers are workers'."""
    name = _named(reader)
    if not _READER_NAME.fullmatch(name):
        raise InvalidInput(
            "reader cannot be the name of a reader of an application's",
            hint="up to 40 lower-case letters, digits, - and _, the first one a letter",
        )
    return name
