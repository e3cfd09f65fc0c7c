"""The rota of a lane: whose turn it is among the users who wait in it."""

import heapq
from collections import deque
from collections.abc import Iterable, Mapping

from turnmill.domain.ids import TurnId
from turnmill.store.line.sharing import Due

#: Users who are remembered, the last ones to be served; any other was served longer ago.
_MOST_REMEMBERED = 1000


class Rota:
    """The next slot goes to who had the fewest; of several, to who was served longest ago."""

    def __init__(self) -> None:
        self.after = ""  #: who was served last
        self._served: dict[str, int] = {}  # when, as a number that rises; the last one last
        self._count = 0

    def order(self, waiting: Iterable[Due], *, had: Mapping[str, int]) -> list[TurnId]:
        """Return the turns in the order in which they are to be served; of one user, as given.

        `had` says how many slots each user had lately.
        """
        lines: dict[str, deque[TurnId]] = {}
        for one in dict.fromkeys(waiting):
            lines.setdefault(one.user_id, deque()).append(one.turn_id)
        places = [
            (had.get(user, 0), self._served.get(user, 0), n, user) for n, user in enumerate(lines)
        ]
        heapq.heapify(places)
        ordered: list[TurnId] = []
        while places:
            before, _, n, user = heapq.heappop(places)
            ordered.append(lines[user].popleft())
            if lines[user]:
                heapq.heappush(places, (before + 1, self._count + len(ordered), n, user))
        return ordered

    def serve(self, user: str) -> None:
        """Note who was served."""
        self._count += 1
        self.after = user
        self._served.pop(user, None)
        self._served[user] = self._count
        if len(self._served) > _MOST_REMEMBERED:
            del self._served[next(iter(self._served))]
