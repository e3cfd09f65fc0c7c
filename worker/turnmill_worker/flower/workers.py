"""What workers say of themselves when they are asked, by the broker that Flower listens to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnmill.domain.errors import StoreUnavailable
from turnmill.wire import ABOUT

_ANSWER_WITHIN = 1.0
#: Workers that are read, and names of each list.
_MOST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSays:
    """One worker."""

    name: str
    owner: str  #: by which leases know it; empty: an older one, which does not say
    version: str
    slots: int
    lanes: Sequence[str]
    providers: Sequence[str]  #: that it can ask: installed, with their keys
    keyless: Sequence[str]  #: installed, and their keys are missing


def ask_workers(control: Any) -> list[WorkerSays]:
    """Ask all of them, and wait a second for answers; raises StoreUnavailable without a broker."""
    try:
        answers = control.broadcast(ABOUT, reply=True, timeout=_ANSWER_WITHIN)
    except Exception as error:  # noqa: BLE001
        # The edge to somebody else's client, whatever the broker's kind.
        raise StoreUnavailable(f"the broker does not answer ({type(error).__name__})") from None
    found = {name: said for answer in (answers or [])[:_MOST] for name, said in answer.items()}
    return [_read(name, found[name]) for name in sorted(found)]


def _read(name: str, said: Any) -> WorkerSays:
    """Return what a worker said; whoever may write to the broker can answer, so all is checked."""
    said = said if isinstance(said, Mapping) else {}
    lacks = said.get("lacks")
    keyless = set(_texts(lacks))
    slots = said.get("slots")
    return WorkerSays(
        name=_text(name),
        owner=_text(said.get("owner")),
        version=_text(said.get("version")),
        slots=slots if isinstance(slots, int) else 0,
        lanes=_texts(said.get("lanes")),
        providers=[one for one in _texts(said.get("providers")) if one not in keyless],
        keyless=sorted(keyless),
    )


def _text(value: Any) -> str:
    return value[:80] if isinstance(value, str) and value.isprintable() else ""


def _texts(values: Any) -> list[str]:
    is_some = isinstance(values, Iterable) and not isinstance(values, str)
    return [_text(one) for one in list(values)[:_MOST]] if is_some else []
