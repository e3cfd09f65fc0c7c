"""Analytics: what all the turns came to."""

from turnmill.executor.task import AsyncExecutor
from turnmill.verbs import analytics
from turnmill.verbs.analytics import Report


class AsyncAnalytics:
    """`client.analytics`: reports."""

    def __init__(self, executor: AsyncExecutor) -> None:
        self._executor = executor

    async def report(self, *, days: int = 7, by_day: bool = True, refresh: bool = True) -> Report:
        """Return what the turns that ended in the last `days` UTC days came to.

        Beat writes the figures every ten minutes. With `refresh`, those of today are written anew
        before they are read; that takes as long as it takes to read the turns of a day.
        """
        verb = analytics.report(days=days, by_day=by_day, refresh=refresh)
        return await self._executor.run(verb)
