"""Budgets: what turns may cost, and what they have cost so far."""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from turnmill.actor import actor_of
from turnmill.domain.budgets import OnExceeded, Period
from turnmill.executor.task import AsyncExecutor, async_knowing
from turnmill.store.budget_records import Budget
from turnmill.verbs import budgets
from turnmill.verbs.budgets import Whose
from turnmill.verbs.refs import SessionRef


class AsyncBudgets:
    """`client.budgets`: bounds of what turns cost, kept by reserving the most of each call."""

    def __init__(self, executor: AsyncExecutor) -> None:
        self._executor = executor

    @async_knowing
    async def set(
        self,
        *,
        limit_usd: Decimal | float | str,
        period: Period | str = Period.MONTH,
        timezone: str = "UTC",
        on_exceeded: OnExceeded | str = OnExceeded.FAIL,
        warn_at: Sequence[float] = (0.8, 0.95),
        session: SessionRef | None = None,
        user_id: str | None = None,
        tag: tuple[str, str] | None = None,
    ) -> Budget:
        """Bound what turns cost from their next call on; setting again changes the bound.

        - `limit_usd`: US dollars. What was spent before there was a budget does not count.
        - `period`: `turn` (each has the limit for itself), `day`, `week`, `month` or `total`.
        - `timezone`: whose midnights begin days, weeks (on Mondays) and months.
        - `on_exceeded`: `fail`, as `budget_exceeded`, or `wait`, until the period is over or the
          limit is raised.
        - `warn_at`: shares of the limit; an event `budget.threshold` tells of each, once a period.
        - `session`, `user_id` or `tag`: whose turns, by one of them; by none, everybody's. A tag is
          a key of metadata, of a turn or else its session, that TURNMILL_TAGS names, and a value.

        One scope may have a budget for each period: a call has to fit into all of them. Raises
        InvalidInput, SessionNotFound.
        """
        whose = Whose(session=session, user_id=user_id, tag=tag, settings=self._executor.settings)
        verb = budgets.set_budget(
            whose,
            limit_usd=limit_usd,
            period=period,
            timezone=timezone,
            on_exceeded=on_exceeded,
            warn_at=warn_at,
            actor=actor_of(self._executor.settings),
        )
        return await self._executor.run(verb)

    async def get(
        self,
        *,
        session: SessionRef | None = None,
        user_id: str | None = None,
        tag: tuple[str, str] | None = None,
        period: Period | str | None = None,
    ) -> Budget:
        """Return a budget, and what is spent and reserved in its period, or raise BudgetNotFound.

        Where the scope has more than one, `period` says which.
        """
        whose = Whose(session=session, user_id=user_id, tag=tag)
        return await self._executor.run(budgets.get(whose, period=period))

    async def list(self, *, after: UUID | None = None, limit: int = 100) -> list[Budget]:
        """Return up to `limit` budgets, oldest first; `after` is the last id of a page."""
        return await self._executor.run(budgets.find(after=after, limit=limit))

    async def remove(
        self,
        *,
        session: SessionRef | None = None,
        user_id: str | None = None,
        tag: tuple[str, str] | None = None,
        period: Period | str | None = None,
    ) -> None:
        """Bound these turns no more, or raise BudgetNotFound; who waits for it goes on."""
        whose = Whose(session=session, user_id=user_id, tag=tag)
        actor = actor_of(self._executor.settings)
        await self._executor.run(budgets.remove(whose, period=period, actor=actor))
