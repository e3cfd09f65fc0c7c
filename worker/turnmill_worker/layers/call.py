"""What goes through the layers around a provider, and the shape of a layer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from turnmill.domain.content import TEXT_ONLY
from turnmill.domain.content import Kind as PartKind
from turnmill.domain.errors import StoreError
from turnmill.store.records import Claim
from turnmill_worker.layers.holding import Holding
from turnmill_worker.providers.boundary import Answer, Fault, name_of
from turnmill_worker.providers.port import Emit, Request

T = TypeVar("T")

Kind = Literal["send", "check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One question to a provider, on its way in.

    A layer passes it on as it is, or with another `request` (`dataclasses.replace`). That changes
    what is sent, and nothing that is stored.
    """

    claim: Claim = field(repr=False)  #: whose turn, of which session and user: to be read only
    request: Request = field(repr=False)  #: what the provider is given
    kind: Kind  #: send: it is executed; check: what has become of it?
    holding: Holding = field(repr=False)  #: ours: whether it may begin, and has left
    emit: Emit | None = field(default=None, repr=False)
    takes: frozenset[PartKind] = TEXT_ONLY  #: the kinds of parts that the provider can be sent


#: Passes a call on, inwards. Returns the answer, or raises the ProviderError that it stands for.
Go = Callable[[Call], Awaitable[Answer]]

#: Stands around a call: returns `await go(call)`, with either of them changed or not. One that has
#: nothing to do with a call is a plain function that returns `go(call)`: that costs no coroutine.
Layer = Callable[[Call, Go], Awaitable[Answer]]


def around(layer: Layer, go: Go) -> Go:
    """Return `go` with the layer around it."""

    def inner(call: Call) -> Awaitable[Answer]:
        return layer(call, go)

    return inner


async def from_store(asking: Awaitable[T]) -> T:
    """Return what our own store says before anything was sent, or raise Fault."""
    try:
        return await asking
    except StoreError as error:
        raise Fault(error.code) from None
    except Exception as error:  # noqa: BLE001
        # The edge of a turn, which has to come to an end: say, a row of its history is corrupt.
        raise Fault(f"bug:{name_of(error)}"[:64]) from None
