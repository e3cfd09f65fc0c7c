"""Histories while a vendor works: of thousands of turns that wait, none keeps what it has told."""

from turnmill.domain.errors import NotSent, StoreError
from turnmill.store.codec import StoredHistory
from turnmill_worker.providers.port import Request


def let_go(request: Request) -> None:
    """Keep nothing of the history, where it can be read again: a body was made of it."""
    if isinstance(request.history, StoredHistory):
        request.history.let_go()


def is_gone(request: Request) -> bool:
    """Tell whether the history has to come back before it can be looked at."""
    return isinstance(request.history, StoredHistory) and not request.history.is_here


async def come_back(request: Request) -> None:
    """Have the history here. Raises NotSent where it cannot be read: nothing else was sent then."""
    if not isinstance(request.history, StoredHistory):
        return
    try:
        await request.history.come_back()
        return
    except StoreError as error:
        code = error.code
    raise NotSent(code)
