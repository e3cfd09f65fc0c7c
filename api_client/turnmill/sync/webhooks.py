# Made from aio/webhooks.py by `make sync`: change that.
"""Webhooks: addresses that are told of events."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from turnmill.executor.thread import Executor
from turnmill.store.hook_records import Delivery, DeliveryState, Webhook
from turnmill.verbs import webhooks
from turnmill.verbs.intake import UNCHANGED, Unchanged
from turnmill.verbs.webhooks import WebhookRef


class Webhooks:
    """`client.webhooks`: addresses that workers post events to, signed, and what came of that.

    Whatever is done to one raises WebhookNotFound where it is not there.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def create(
        self,
        *,
        url: str,
        events: Sequence[str],
        secret: str | None = None,
        include_content: bool = False,
    ) -> Webhook:
        """Have this address told of what happens from now on; it is sent to by workers.

        - `events`: kinds, `turn.settled` for every ending, `session.*`, or `*` for all.
        - `secret`: signs each request, as Standard Webhooks has it: `whsec_…`. None makes one. It
          is returned here and by `rotate`, and nowhere else.
        - `include_content`: the words of replies go along; else ids and states alone.

        Raises InvalidInput, or AddressRefused for what is no URL of http or https. Private
        addresses are refused when they are sent to, but for those of TURNMILL_WEBHOOK_ALLOW.
        """
        verb = webhooks.create(url, events=events, secret=secret, include_content=include_content)
        return self._executor.run(verb)

    def list(self) -> Sequence[Webhook]:
        """Return all of them, the oldest first."""
        return self._executor.run(webhooks.find())

    def get(self, webhook: WebhookRef) -> Webhook:
        """Return the webhook as it stands now, or raise WebhookNotFound."""
        return self._executor.run(webhooks.get(webhook))

    def update(
        self,
        webhook: WebhookRef,
        *,
        url: str | Unchanged = UNCHANGED,
        events: Sequence[str] | Unchanged = UNCHANGED,
        include_content: bool | Unchanged = UNCHANGED,
    ) -> Webhook:
        """Change what is given; the rest stays. What waits is sent to the new address.

        Raises what `create` does.
        """
        verb = webhooks.update(webhook, url=url, events=events, include_content=include_content)
        return self._executor.run(verb)

    def delete(self, webhook: WebhookRef) -> None:
        """Send nothing there any more, and forget what was sent."""
        self._executor.run(webhooks.delete(webhook))

    def rotate(
        self,
        webhook: WebhookRef,
        *,
        secret: str | None = None,
        overlap: timedelta = timedelta(days=1),
    ) -> Webhook:
        """Sign with another secret from now on; for `overlap` the one of before signs, too."""
        return self._executor.run(webhooks.rotate(webhook, secret=secret, overlap=overlap))

    def release(self, webhook: WebhookRef) -> int:
        """Go on with one that is parked; return how many parked deliveries are sent again."""
        return self._executor.run(webhooks.release(webhook))

    def replay(
        self,
        webhook: WebhookRef,
        *,
        deliveries: Sequence[Delivery | UUID | str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> int:
        """Send again what is in the log: those deliveries, or of what happened in that time.

        Returns how many that are. Each has the id that it had before. Raises MoveRefused for more
        than may wait: 100,000, with what waits already.
        """
        verb = webhooks.replay(webhook, deliveries=deliveries, since=since, until=until)
        return self._executor.run(verb)

    def deliveries(
        self,
        webhook: WebhookRef,
        *,
        state: DeliveryState | str | None = None,
        after: UUID | str | None = None,
        limit: int = 100,
    ) -> Sequence[Delivery]:
        """Return up to `limit` deliveries, the newest first; `after` is the last id of a page.

        What was delivered is kept for a week, what is parked for a month. No body is kept.
        """
        verb = webhooks.deliveries(webhook, state=state, after=after, limit=limit)
        return self._executor.run(verb)
