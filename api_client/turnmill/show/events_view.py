"""Events and their readers, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnmill.show.listing import Listing
from turnmill.show.tables import fields, print_json
from turnmill.show.terminal import on_one_line, tell
from turnmill.show.wording import duration

if TYPE_CHECKING:
    from turnmill.store.nouns.events import Event, EventReader


def _document(event: Event) -> dict[str, Any]:
    return dict(fields(event, "place", "id", "kind", "session_id", "n", "turn_id", "state", "at"))


def _row(event: Event) -> tuple[object, ...]:
    return (event.place, event.kind, event.at, event.turn_id, event.n, event.session_id)


EVENTS: Listing[Event] = Listing(
    columns=("place", "kind", "at", "turn", "n", "session"),
    row=_row,
    document=_document,
    numbers=("place", "n"),
    spare=("at", "n", "session"),
)

OBSERVERS: Listing[EventReader] = Listing(
    columns=("observer", "behind", "lag", "failures", "missed", ""),
    row=lambda one: (
        one.name.removeprefix("observer:"),
        one.behind,
        "" if one.lag is None else duration(one.lag),
        one.tries,
        one.missed,
        _parked(one),
    ),
    document=lambda one: fields(one, *one.__dataclass_fields__),
    numbers=("behind", "failures", "missed"),
)


def _parked(one: EventReader) -> str:
    if not one.parked:
        return ""
    return f"parked: {one.parked_because}" if one.parked_because else "parked"


READERS: Listing[EventReader] = Listing(
    columns=("reader", "behind", "lag", "missed", "failures", ""),
    row=lambda one: (
        one.name,
        one.behind,
        "" if one.lag is None else duration(one.lag),
        one.missed,
        one.tries,
        _parked(one),
    ),
    document=lambda one: fields(one, *one.__dataclass_fields__),
    numbers=("behind", "missed", "failures"),
)


def print_event(event: Event, *, as_json: bool) -> None:
    """Print one event on a line, at once."""
    if as_json:
        print_json(_document(event))
        return
    words = ["" if word is None else on_one_line(str(word)) for word in _row(event)]
    tell("  ".join(words))
