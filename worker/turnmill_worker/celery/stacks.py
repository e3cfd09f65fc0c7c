"""What a worker says of its threads when it gets USR1: where each of them is, and no value."""

import faulthandler
import signal
import sys

#: Whose answer is another one: it prints local variables, and a tool's are what it was called with.
_CELERYS = "celery.apps.worker"


def show_places_alone() -> None:
    """Answer in Celery's place; a handler of somebody else's stays."""
    usr1 = getattr(signal, "SIGUSR1", None)
    if usr1 is None or sys.__stderr__ is None:
        return
    if getattr(signal.getsignal(usr1), "__module__", "") == _CELERYS:
        faulthandler.register(usr1, file=sys.__stderr__, all_threads=True, chain=False)
