"""Users as a whole: exported, erased for certain, held, and looked for."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from turnmill.actor import actor_of
from turnmill.domain.auditing import Action
from turnmill.executor.task import AsyncExecutor, async_aside, async_knowing
from turnmill.store.deletion_records import Erasure, ErasureReport, Hold
from turnmill.verbs import auditing
from turnmill.verbs.users import acting
from turnmill.verbs.users.erasing import Replayed
from turnmill.verbs.users.exporting import UserExport
from turnmill.verbs.users.verifying import ErasureCheck


class AsyncUsers:
    """`client.users`: whatever is kept of one person."""

    def __init__(self, executor: AsyncExecutor) -> None:
        self._executor = executor

    @async_knowing
    async def export(
        self,
        user_id: str,
        path: str | Path,
        *,
        progress: Callable[[str, int], None] | None = None,
    ) -> UserExport:
        """Write everything about a user into a zip file: rows as JSONL, files, and what they mean.

        Rows are as of one moment. The file is there when it is whole, and its owner's only; one
        that is there already is replaced. Nothing is held whole, however much it is.

        - `progress`: told, now and then, what is being written, and how many rows or files of it
          have been.

        Raises InvalidInput where nothing can be written there, and UserNotFound.
        """
        settings, user = self._executor.settings, acting.user_of(user_id)
        exporting = acting.exporting(self._executor.blocking, settings)
        # Before anything leaves: what cannot be written down is not exported.
        await self._executor.run(acting.to_be_exported(user, actor=self._actor))
        return await async_aside(exporting.export, user, path, progress=progress)

    @async_knowing
    async def erase(
        self, user_id: str, *, reason: str = "", grace: timedelta | None = None
    ) -> ErasureReport:
        """Erase a user with all that is his, for good, and tell what is left for now.

        From then on nothing is written for this id, until `admit`; figures stay, without the
        person. It returns when his rows and files are gone, mostly; vendors are asked by workers.
        `erasure` tells how far it is. Done again, it is the same.

        - `reason`: is kept. Let it name nobody.
        - `grace`: nothing happens before that time is over, and `withdraw` takes it back.

        Raises UserNotFound where nothing is known of him and never was, and UserOnHold.
        """
        erasing = acting.erasing(
            self._executor.blocking, self._executor.settings, self._executor.copies
        )
        wanted = acting.wanted(reason, grace)
        return await async_aside(erasing.erase, acting.user_of(user_id), **wanted)

    async def erasure(self, user_id: str) -> ErasureReport:
        """Return what has become of a user who was erased, or is to be; else UserNotFound."""
        return await self._executor.run(acting.erasure(user_id))

    async def erasures(self, *, after: str | None = None, limit: int = 100) -> list[Erasure]:
        """Return up to `limit` erasures, by what stands for the users; `after` is the last hash."""
        return await self._executor.run(acting.erasures(after=after, limit=limit))

    async def withdraw(self, user_id: str) -> bool:
        """Take back an erasure whose time has not come; False where there is none."""
        return await self._executor.run(acting.withdraw(user_id, actor=self._actor))

    async def admit(self, user_id: str) -> bool:
        """Let somebody of this id in again who was erased; False where nobody was.

        Where content is encrypted it waits, for half a minute after the end of the erasure at the
        most, until no process holds a data key of before.
        """
        erasing = acting.erasing(
            self._executor.blocking, self._executor.settings, self._executor.copies
        )
        admitted = await async_aside(erasing.admit, acting.user_of(user_id))
        if admitted:
            settings = self._executor.settings
            await self._executor.run(auditing.stated(Action.USER_ADMITTED, settings))
        return admitted

    async def hold(self, user_id: str, *, reason: str) -> Hold:
        """Let nothing of a user be deleted, by nobody, until `release`: a legal hold.

        Neither by `erase`, `sessions.delete`, `attachments.delete` and `schedules.delete`, which
        raise UserOnHold, nor when its time is over; nor what others have said in his sessions, who
        are not erased before that. Raises UserErased where an erasure of his, or of one of those,
        has begun already.
        """
        return await self._executor.run(acting.hold(user_id, reason, actor=self._actor))

    async def release(self, user_id: str) -> bool:
        """End a hold; False where there is none."""
        return await self._executor.run(acting.release(user_id, actor=self._actor))

    async def holds(self, *, after: str | None = None, limit: int = 100) -> list[Hold]:
        """Return up to `limit` holds, by user; `after` is the last one of the page before."""
        return await self._executor.run(acting.holds(after=after, limit=limit))

    @async_knowing
    async def verify_erasure(self, user_id: str, *, words: Sequence[str] = ()) -> ErasureCheck:
        """Look everywhere for a user who was erased, and tell where something is: never what.

        In every column of every table, in the file store, in the Redis, and among data keys.

        - `words`: that nobody else says; they are looked for within texts and files, too.
        """
        verifying = acting.verifying(self._executor.blocking, self._executor.settings)
        # Whose is not said: of somebody who was erased the log would have a name again.
        await self._executor.run(auditing.stated(Action.ERASURE_VERIFIED, self._executor.settings))
        return await async_aside(
            verifying.verify, acting.user_of(user_id), words=acting.words_of(words)
        )

    async def replay_erasures(self, path: str | Path | None = None) -> Replayed:
        """Erase again who was erased after the backup was made that was restored.

        - `path`: a file of erasures, as `turnmill users erasures --json` has written it before.
        """
        erasing = acting.erasing(
            self._executor.blocking, self._executor.settings, self._executor.copies
        )
        replayed = await async_aside(erasing.replay, await async_aside(acting.hashes_in, path))
        figures = {"known": replayed.known, "erased": replayed.erased}
        settings = self._executor.settings
        await self._executor.run(
            auditing.stated(Action.ERASURES_REPLAYED, settings, figures=figures)
        )
        return replayed

    @property
    def _actor(self) -> str:
        return actor_of(self._executor.settings)
