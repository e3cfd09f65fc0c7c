# Made from aio/nouns.py by `make sync`: change that.
"""What a client has beside sessions and turns, loaded where it is first asked for."""

from functools import cached_property
from typing import TYPE_CHECKING

from turnmill.executor.thread import Executor

if TYPE_CHECKING:
    from turnmill.sync.accounts import Accounts
    from turnmill.sync.analytics import Analytics
    from turnmill.sync.attachments import Attachments
    from turnmill.sync.audit import Audit
    from turnmill.sync.batches import Batches
    from turnmill.sync.budgets import Budgets
    from turnmill.sync.events import Events
    from turnmill.sync.lanes import Lanes
    from turnmill.sync.limits import Limits
    from turnmill.sync.schedules import Schedules
    from turnmill.sync.templates import Templates
    from turnmill.sync.users import Users
    from turnmill.sync.webhooks import Webhooks


class Nouns:
    """What an application may ask a client for that does more than send and read."""

    _executor: Executor

    @cached_property
    def attachments(self) -> "Attachments":
        """Files of users, kept once each, and given to models."""
        from turnmill.sync.attachments import Attachments  # noqa: PLC0415

        return Attachments(self._executor)

    @cached_property
    def batches(self) -> "Batches":
        """Jobs of many turns, from a file and back into one."""
        from turnmill.sync.batches import Batches  # noqa: PLC0415

        return Batches(self._executor)

    @cached_property
    def analytics(self) -> "Analytics":
        """What all the turns came to, by day, provider and model."""
        from turnmill.sync.analytics import Analytics  # noqa: PLC0415

        return Analytics(self._executor)

    @cached_property
    def audit(self) -> "Audit":
        """Who did what to whose data."""
        from turnmill.sync.audit import Audit  # noqa: PLC0415

        return Audit(self._executor)

    @cached_property
    def budgets(self) -> "Budgets":
        """What turns may cost, and what they have cost so far."""
        from turnmill.sync.budgets import Budgets  # noqa: PLC0415

        return Budgets(self._executor)

    @cached_property
    def lanes(self) -> "Lanes":
        """What waits and runs in each lane; lanes and providers can be paused."""
        from turnmill.sync.lanes import Lanes  # noqa: PLC0415

        return Lanes(self._executor)

    @cached_property
    def limits(self) -> "Limits":
        """How much providers may be asked in a minute, and at once."""
        from turnmill.sync.limits import Limits  # noqa: PLC0415

        return Limits(self._executor)

    @cached_property
    def templates(self) -> "Templates":
        """Set-ups of sessions, by name and version."""
        from turnmill.sync.templates import Templates  # noqa: PLC0415

        return Templates(self._executor)

    @cached_property
    def schedules(self) -> "Schedules":
        """What is said in sessions again and again, or once later."""
        from turnmill.sync.schedules import Schedules  # noqa: PLC0415

        return Schedules(self._executor)

    @cached_property
    def accounts(self) -> "Accounts":
        """Keys whose vendor has said later, or never, and models that fail; they can be opened."""
        from turnmill.sync.accounts import Accounts  # noqa: PLC0415

        return Accounts(self._executor)

    @cached_property
    def users(self) -> "Users":
        """Users as a whole: exported, erased for certain, held, and looked for."""
        from turnmill.sync.users import Users  # noqa: PLC0415

        return Users(self._executor)

    @cached_property
    def events(self) -> "Events":
        """What happened to turns, in order; and for whom it is kept."""
        from turnmill.sync.events import Events  # noqa: PLC0415

        return Events(self._executor)

    @cached_property
    def webhooks(self) -> "Webhooks":
        """Addresses that workers post events to, signed; and what came of that."""
        from turnmill.sync.webhooks import Webhooks  # noqa: PLC0415

        return Webhooks(self._executor)
