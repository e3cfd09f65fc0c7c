"""Counting for clients: what a message of a session would have its model read."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from uuid import UUID

from turnmill.domain.content import Message
from turnmill.domain.errors import NotSent, Rejected
from turnmill.domain.ids import TurnId
from turnmill.settings import Settings
from turnmill.store.records import SessionRecord
from turnmill_worker.providers.boundary import error_of, taken_by
from turnmill_worker.providers.counting import most_of
from turnmill_worker.providers.fitting import fitted
from turnmill_worker.providers.port import CountsTokens, Provider, Request
from turnmill_worker.providers.registry import ProviderRegistry
from turnmill_worker.tools.offered import Tools
from turnmill_worker.tools.registered import registered

_NOBODY = TurnId(UUID(int=0))
_INSTEAD = "exact=False: a bound that needs nobody"


def count(
    session: SessionRecord,
    history: Sequence[Message],
    said: Sequence[Message],
    *,
    exact: bool,
    settings: Settings,
) -> int | None:
    """Return how many tokens are read; None where nobody can tell. Raises ProviderError."""
    providers = ProviderRegistry()
    request = _request(session, history, said, settings)
    if exact:
        return _on_a_loop(lambda: _asked(providers, session.provider, request))
    return _bound(providers, session.provider, request)


def _request(
    session: SessionRecord, history: Sequence[Message], said: Sequence[Message], settings: Settings
) -> Request:
    offered = Tools(registered(settings.tools)).offered(session.settings.get("tools") or [])
    schema = session.settings.get("response_format")
    return Request(
        turn_id=_NOBODY,
        session_id=session.id,
        attempt=1,
        fence=0,
        model=session.model,
        messages=said,
        history=history,
        system_prompt=session.system_prompt,
        settings=session.settings,
        tools=tuple(one.offer for one in offered.values()),
        output_schema=schema if isinstance(schema, dict) else None,
    )


def _bound(providers: ProviderRegistry, name: str, request: Request) -> int | None:
    """Return the bound of the provider, or of its bytes where it cannot be used here."""
    try:
        provider: object = providers.get(name)
    except Rejected:
        provider = None
    return most_of(provider, request, ()).input_tokens


async def _asked(providers: ProviderRegistry, name: str, request: Request) -> int:
    """Ask the vendor, on connections of its own."""
    try:
        provider: Provider = providers.get(name)
        if not isinstance(provider, CountsTokens):
            raise Rejected(
                "no_counting",
                detail=f"provider {name} has no way to count",
                hint=_INSTEAD,
            )
        fit = fitted(request, name=provider.name, takes=taken_by(provider))
        found = await provider.count(replace(fit, settings=request.settings))
        if type(found) is not int or found < 0:
            raise NotSent("bad_answer")
        return found
    except Exception as error:  # noqa: BLE001
        # The edge to a provider, which may be anybody's.
        failed = error_of(error)
        failed.hint = failed.hint or _INSTEAD
        raise failed from None
    finally:
        await providers.aclose()


def _on_a_loop(work: Callable[[], Awaitable[int]]) -> int:
    """Run it on a loop of its own: the caller's thread may have one already."""
    result: Future[int] = Future()

    def run() -> None:
        try:
            result.set_result(asyncio.run(_awaited(work)))
        except BaseException as error:  # noqa: BLE001
            # The edge of this thread: whoever waits gets it.
            result.set_exception(error)

    thread = threading.Thread(target=run, name="turnmill-counting", daemon=True)
    thread.start()
    return result.result()


async def _awaited(work: Callable[[], Awaitable[int]]) -> int:
    return await work()
