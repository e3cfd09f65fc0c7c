"""The audit log: who did what to whose data, and whether it still says what was written."""

from turnmill.domain.auditing import Action
from turnmill.executor.task import AsyncExecutor
from turnmill.store.audit_records import AuditCheck, AuditEntry, AuditHead
from turnmill.verbs import auditing


class AsyncAudit:
    """`client.audit`: what was done to whose data, by whom; rows are never changed."""

    def __init__(self, executor: AsyncExecutor) -> None:
        self._executor = executor

    async def list(
        self,
        *,
        user_id: str | None = None,
        action: Action | str | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[AuditEntry]:
        """Return up to `limit` rows, newest first; `after` is the last id of the page before.

        Of somebody who was erased the log knows a pseudonym alone: by his name nothing is found.
        Raises InvalidInput.
        """
        verb = auditing.find(user_id=user_id, action=action, after=after, limit=limit)
        return await self._executor.run(verb)

    async def verify(self, checkpoint: AuditHead | str | None = None) -> AuditCheck:
        """Look at every row: whether one was edited, removed, put in or moved.

        - `checkpoint`: a head that was exported earlier, or its text: whoever owns the tables can
          write the whole log anew, and that is then another one.

        Rows of the last minutes, which upkeep has not chained yet, are looked at one by one: of
        these, the removal of the last ones is not seen. Raises InvalidInput.
        """
        return await self._executor.run(auditing.verify(checkpoint))

    async def checkpoint(self) -> AuditHead | None:
        """Chain what was written, and return the head; None for an empty log.

        Kept where those who could change the log cannot write, `str(head)` proves later that
        nothing up to it was changed.
        """
        return await self._executor.run(auditing.checkpoint())
