"""When all workers have heard: what stands in a row is known to each of them a moment later."""

from collections.abc import Callable

from tests.chaos.system import until
from turnmill.sync.turns import Turn


def send_until_all_put_off(
    send: Callable[[], Turn],
    *,
    waits_for: str,
    workers: int = 2,
    still: Callable[[], object] = lambda: True,
) -> list[Turn]:
    """Send turns, one after the other, until each worker has put one off; return all of them.

    Those before may have been called, by a worker that had not heard yet. It ends, too, where
    what they wait for is not so any more.
    """
    sent: list[Turn] = []

    def all_have_heard() -> bool:
        sent.append(send())
        return len({worker for one in sent for worker in _put_off_by(one, waits_for)}) >= workers

    until(lambda: all_have_heard() or not still())
    return sent


def is_put_off(turn: Turn, waits_for: str) -> bool:
    """Tell whether the turn was put off for this: also while somebody looks at it again."""
    return turn.refresh().record.waits_for == waits_for


def _put_off_by(turn: Turn, waits_for: str) -> list[str]:
    """Return who has put the turn off, but for moments at which somebody looks again."""
    if not is_put_off(turn, waits_for):
        return []
    return [one.worker for one in turn.attempts() if one.outcome == "not_now"]
