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

    def choose(self, waiting: Iterable[Due], *, had: Mapping[str, int], most: int) -> list[TurnId]:
        """Choose whom to serve, up to `most`; of one user in the order given.

        `had` says how many slots each user had lately.
        """
        lines: dict[str, deque[TurnId]] = {}
        for one in dict.fromkeys(waiting):
            lines.setdefault(one.user_id, deque()).append(one.turn_id)
        places = [
            (had.get(user, 0), self._served.get(user, 0), n, user) for n, user in enumerate(lines)
        ]
        heapq.heapify(places)
        chosen: list[TurnId] = []
        while places and len(chosen) < most:
            before, _, n, user = heapq.heappop(places)
            chosen.append(lines[user].popleft())
            self._serve(user)
            if lines[user]:
                heapq.heappush(places, (before + 1, self._count, n, user))
        return chosen

    def _serve(self, user: str) -> None:
        self._count += 1
        self.after = user
        self._served.pop(user, None)
        self._served[user] = self._count
        if len(self._served) > _MOST_REMEMBERED:
            del self._served[next(iter(self._served))]
