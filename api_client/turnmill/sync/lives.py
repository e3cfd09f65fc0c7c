# Made from aio/lives.py by `make sync`: change that.
"""What becomes of sessions: they are archived, forked, moved, paused and deleted."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from turnmill.domain.arguments import wait_where
from turnmill.domain.ids import SessionId
from turnmill.domain.plain import text_of
from turnmill.domain.states import Running
from turnmill.executor.thread import Executor, knowing
from turnmill.listening.watchlist import Deadline
from turnmill.store.records import SessionRecord
from turnmill.sync.ended import when_ended
from turnmill.verbs import intake, sessions
from turnmill.verbs.intake import UNCHANGED, Unchanged
from turnmill.verbs.refs import SessionRef

if TYPE_CHECKING:
    from turnmill.store.deletion_records import DeletionReport


class Lives:
    """The part of `client.sessions` that ends a session, or lets it go on elsewhere."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def archive(
        self,
        session: SessionRef,
        *,
        running: str = Running.REFUSE,
        timeout: float | timedelta | None = None,
    ) -> SessionRecord:
        """Refuse messages from now on; the history stays.

        - `running`: what becomes of turns that have not ended: `refuse` raises MoveRefused, `wait`
          archives when they have ended, `cancel` cancels them first.
        - `timeout`: for how long their end is waited for (seconds or timedelta; None: without end);
          then TurnTimeout is raised, and nothing is archived. InvalidInput beside `refuse`.
        """
        from turnmill.verbs import lifecycle  # noqa: PLC0415  whoever only sends does none of it

        deadline = _until(timeout, running)
        verb = partial(lifecycle.archive, session, running=running)
        return when_ended(self._executor, verb, deadline)

    def restore(self, session: SessionRef) -> SessionRecord:
        """Let an archived session take messages again.

        Its history is whole; what its vendor kept was given up when it was archived, so that the
        next turn begins a thread from the history. Raises MoveRefused for one that is paused, and
        Conflict where another session has adopted its thread meanwhile.
        """
        from turnmill.verbs import lifecycle  # noqa: PLC0415  whoever only sends does none of it

        return self._executor.run(lifecycle.restore(session, self._executor.backpressure))

    @knowing
    def fork(
        self,
        session: SessionRef,
        *,
        at: object = None,
        key: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        system_prompt: str | Unchanged | None = UNCHANGED,
        settings: Mapping[str, Any] | Unchanged | None = UNCHANGED,
        metadata: Mapping[str, Any] | Unchanged | None = UNCHANGED,
        max_cost_usd: Decimal | float | str | Unchanged | None = UNCHANGED,
    ) -> SessionRecord:
        """Create a session that begins with the history of this one, and goes on by itself.

        - `at`: the last turn that is copied, or its id; None: all. Turns that have succeeded are.
        - `key`: as for `create`; a fork whose key stands is returned as it is.
        - All other options are those of the session, unless they are given.

        It shares nothing at a vendor, and costs nothing until it is talked in. Raises InvalidInput,
        SessionNotFound, TurnNotFound, Conflict.
        """
        from turnmill.verbs import lifecycle  # noqa: PLC0415  whoever only sends does none of it

        options = intake.session_options(
            system_prompt=system_prompt,
            settings=settings,
            metadata=metadata,
            max_text_bytes=self._executor.settings.max_text_bytes,
        )
        verb = lifecycle.fork(
            session,
            self._executor.backpressure,
            at=at,
            key=key,
            provider=provider,
            model=model,
            max_cost_usd=max_cost_usd,
            options=options,
        )
        return self._executor.run(verb)

    @knowing
    def move(
        self,
        session: SessionRef,
        *,
        provider: str | None = None,
        model: str | None = None,
        settings: Mapping[str, Any] | Unchanged | None = UNCHANGED,
        running: str = Running.REFUSE,
        timeout: float | timedelta | None = None,
        if_version: int | None = None,
    ) -> SessionRecord:
        """Let another provider or model answer from the next turn on; the history goes along.

        A thread at the vendor that is left is deleted there. Turns that wait are asked of the new
        one. `settings` takes the place of those that the new one might refuse.

        - `running`, `timeout`: as for `archive`, of the turn that has begun.
        - `if_version`: as for `update`.

        Raises InvalidInput, SessionNotFound, MoveRefused, VersionConflict.
        """
        from turnmill.verbs import lifecycle  # noqa: PLC0415  whoever only sends does none of it

        deadline = _until(timeout, running)
        options = intake.session_options(
            settings=settings, max_text_bytes=self._executor.settings.max_text_bytes
        )
        return when_ended(
            self._executor,
            lambda: lifecycle.move(
                session,
                provider=provider,
                model=model,
                options=options,
                running=running,
                if_version=if_version,
            ),
            deadline,
        )

    def pause(self, session: SessionRef) -> SessionRecord:
        """Start no turn of the session until `resume`; messages are still accepted."""
        return self._executor.run(sessions.pause(session))

    def resume(self, session: SessionRef) -> SessionRecord:
        """Let the turns of a paused session run again."""
        return self._executor.run(sessions.resume(session))

    def delete(self, session: SessionRef, *, running: str = Running.WAIT) -> "DeletionReport":
        """Remove the session with every row, for good, and tell what is left for now.

        It is gone for callers at once. What a vendor keeps is deleted there by workers, and tried
        again until it is: `deletion` tells how far that is.

        - `running`: what becomes of a turn that runs: `wait` lets it end, and the rows go after it;
          `cancel` cancels it; `refuse` raises MoveRefused, and nothing is deleted. Turns that do
          not run are cancelled.
        """
        from turnmill.verbs import lifecycle  # noqa: PLC0415  whoever only sends does none of it

        return self._executor.run(lifecycle.delete(session, running=running))

    def deletion(self, session: SessionId | UUID | str) -> "DeletionReport":
        """Return what has become of a session that was deleted, or purged, by its id.

        Raises SessionNotFound where none was, or 90 days after nothing was left of it.
        """
        from turnmill.verbs import lifecycle  # noqa: PLC0415  whoever only sends does none of it

        return self._executor.run(lifecycle.deletion(session))

    def keep_content(self, user_id: str, keep: timedelta | None) -> None:
        """Keep what is said in the user's sessions for so long; None: as everybody's.

        A session's own `keep_content` goes before it.
        """
        from turnmill.verbs import lifecycle  # noqa: PLC0415  whoever only sends does none of it

        self._executor.run(lifecycle.keep_content(user_id, keep))

    def content_kept(self, user_id: str) -> timedelta | None:
        """Return what `keep_content` has set for the user; None: nothing."""
        from turnmill.verbs import lifecycle  # noqa: PLC0415  whoever only sends does none of it

        return self._executor.run(lifecycle.content_kept(user_id))


def _until(timeout: object, running: object) -> Deadline:
    waits = text_of(running) != Running.REFUSE
    return Deadline(wait_where(timeout, waits=waits, hint='running="wait", or "cancel"'))
