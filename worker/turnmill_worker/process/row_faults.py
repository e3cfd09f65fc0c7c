"""Whose fault it was that something was not written: of what was to be written, or of all else."""

from zoneinfo import ZoneInfoNotFoundError

from turnmill.domain.errors import StoreError, UnreadableRow, Unstorable


def is_of_row(error: Exception) -> bool:
    """Tell whether it comes again however often this is tried, and to nothing else.

    A grant that was forgotten, a migration that is still to come, a machine without memory, or
    without the time zones that others have, are mended by somebody: nothing is lost by that.
    """
    if isinstance(error, StoreError):
        return isinstance(error, Unstorable | UnreadableRow)
    return not isinstance(error, MemoryError | OSError | ImportError | ZoneInfoNotFoundError)
