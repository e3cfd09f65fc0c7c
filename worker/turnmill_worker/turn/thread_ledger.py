"""What lending a vendor's thread, and adopting one, needs of the store."""

from collections.abc import Sequence

from turnmill.domain.content import Message
from turnmill.store.database import Database
from turnmill.store.line import threads
from turnmill.store.records import Claim
from turnmill.store.thread_records import Adoption
from turnmill_worker.turn.patience import patiently


class ThreadLedger:
    """The threads of all sessions of one process, on one store. Raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lend(self, claim: Claim, ref: str, *, opened: bool) -> bool:
        """Take the thread away from its session for a call; False: the turn is no longer ours."""

        def lend() -> bool:
            with self._database.begin() as conn:
                return threads.lend(conn, claim, ref, opened=opened)

        return await patiently(lend)

    async def give_back(self, claim: Claim, ref: str) -> bool:
        """Bring it back as it was; False: the turn is no longer ours."""

        def give_back() -> bool:
            with self._database.begin() as conn:
                return threads.give_back(conn, claim, ref)

        return await patiently(give_back)

    async def adoption(self, claim: Claim) -> Adoption:
        """Return how far the session has come with the thread that it is to go on with."""

        def read() -> Adoption:
            with self._database.single() as conn:
                return threads.adoption_of(conn, claim)

        return await patiently(read)

    async def keep_adopted(self, claim: Claim, said: Sequence[Message]) -> bool:
        """Write down what was said in it before; False: the turn is no longer ours."""

        def keep() -> bool:
            with self._database.begin() as conn:
                return threads.keep_adopted(conn, claim, said)

        return await patiently(keep)
