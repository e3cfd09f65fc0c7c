"""What a client has beside sessions and turns, loaded where it is first asked for."""

from functools import cached_property
from typing import TYPE_CHECKING

from turnmill.executor.task import AsyncExecutor

if TYPE_CHECKING:
    from turnmill.aio.accounts import AsyncAccounts
    from turnmill.aio.analytics import AsyncAnalytics
    from turnmill.aio.attachments import AsyncAttachments
    from turnmill.aio.audit import AsyncAudit
    from turnmill.aio.batches import AsyncBatches
    from turnmill.aio.budgets import AsyncBudgets
    from turnmill.aio.events import AsyncEvents
    from turnmill.aio.lanes import AsyncLanes
    from turnmill.aio.limits import AsyncLimits
    from turnmill.aio.schedules import AsyncSchedules
    from turnmill.aio.templates import AsyncTemplates
    from turnmill.aio.users import AsyncUsers
    from turnmill.aio.webhooks import AsyncWebhooks


class AsyncNouns:
    """What an application may ask a client for that does more than send and read."""

    _executor: AsyncExecutor

    @cached_property
    def attachments(self) -> "AsyncAttachments":
        """Files of users, kept once each, and given to models."""
        from turnmill.aio.attachments import AsyncAttachments  # noqa: PLC0415

        return AsyncAttachments(self._executor)

    @cached_property
    def batches(self) -> "AsyncBatches":
        """Jobs of many turns, from a file and back into one."""
        from turnmill.aio.batches import AsyncBatches  # noqa: PLC0415

        return AsyncBatches(self._executor)

    @cached_property
    def analytics(self) -> "AsyncAnalytics":
        """What all the turns came to, by day, provider and model."""
        from turnmill.aio.analytics import AsyncAnalytics  # noqa: PLC0415

        return AsyncAnalytics(self._executor)

    @cached_property
    def audit(self) -> "AsyncAudit":
        """Who did what to whose data."""
        from turnmill.aio.audit import AsyncAudit  # noqa: PLC0415

        return AsyncAudit(self._executor)

    @cached_property
    def budgets(self) -> "AsyncBudgets":
        """What turns may cost, and what they have cost so far."""
        from turnmill.aio.budgets import AsyncBudgets  # noqa: PLC0415

        return AsyncBudgets(self._executor)

    @cached_property
    def lanes(self) -> "AsyncLanes":
        """What waits and runs in each lane; lanes and providers can be paused."""
        from turnmill.aio.lanes import AsyncLanes  # noqa: PLC0415

        return AsyncLanes(self._executor)

    @cached_property
    def limits(self) -> "AsyncLimits":
        """How much providers may be asked in a minute, and at once."""
        from turnmill.aio.limits import AsyncLimits  # noqa: PLC0415

        return AsyncLimits(self._executor)

    @cached_property
    def templates(self) -> "AsyncTemplates":
        """Set-ups of sessions, by name and version."""
        from turnmill.aio.templates import AsyncTemplates  # noqa: PLC0415

        return AsyncTemplates(self._executor)

    @cached_property
    def schedules(self) -> "AsyncSchedules":
        """What is said in sessions again and again, or once later."""
        from turnmill.aio.schedules import AsyncSchedules  # noqa: PLC0415

        return AsyncSchedules(self._executor)

    @cached_property
    def accounts(self) -> "AsyncAccounts":
        """Keys whose vendor has said later, or never, and models that fail; they can be opened."""
        from turnmill.aio.accounts import AsyncAccounts  # noqa: PLC0415

        return AsyncAccounts(self._executor)

    @cached_property
    def users(self) -> "AsyncUsers":
        """Users as a whole: exported, erased for certain, held, and looked for."""
        from turnmill.aio.users import AsyncUsers  # noqa: PLC0415

        return AsyncUsers(self._executor)

    @cached_property
    def events(self) -> "AsyncEvents":
        """What happened to turns, in order; and for whom it is kept."""
        from turnmill.aio.events import AsyncEvents  # noqa: PLC0415

        return AsyncEvents(self._executor)

    @cached_property
    def webhooks(self) -> "AsyncWebhooks":
        """Addresses that workers post events to, signed; and what came of that."""
        from turnmill.aio.webhooks import AsyncWebhooks  # noqa: PLC0415

        return AsyncWebhooks(self._executor)
