"""What a store, or a machine, says that passes: nothing of a row's own."""

from collections.abc import Callable
from typing import NoReturn
from zoneinfo import ZoneInfoNotFoundError

from turnmill.domain.errors import AccessDenied, SchemaOutOfDate, StoreError, StoreFull

#: A grant that was forgotten, a migration that is still to come, and so on.
PASSING = (
    AccessDenied(),
    SchemaOutOfDate(),
    StoreError("nobody knows what this is"),
    StoreFull(),
    MemoryError(),
    OSError(24, "Too many open files"),
    ZoneInfoNotFoundError("Asia/Kolkata"),
)


def raising(error: Exception) -> Callable[..., NoReturn]:
    """Return what raises this, whatever it is asked."""

    def raise_it(*_: object, **__: object) -> NoReturn:
        raise error

    return raise_it
