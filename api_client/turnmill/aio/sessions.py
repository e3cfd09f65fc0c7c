"""Sessions: conversations of users."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from turnmill.aio.lives import AsyncLives
from turnmill.domain.content import Message
from turnmill.domain.ids import SessionId
from turnmill.domain.states import SessionStatus
from turnmill.executor.task import async_knowing
from turnmill.store.kept import Keeping
from turnmill.store.message_records import MessageRecord
from turnmill.store.records import SessionRecord
from turnmill.verbs import intake, sessions
from turnmill.verbs.intake import (
    UNCHANGED,
    Fallback,
    History,
    Prompt,
    ResponseFormat,
    Tools,
    Unchanged,
)
from turnmill.verbs.refs import SessionRef, TemplateRef

if TYPE_CHECKING:
    from turnmill.aio.participants import AsyncParticipants
    from turnmill.store.compaction_records import CompactionRecord


class AsyncSessions(AsyncLives):
    """`client.sessions`: conversations of users."""

    @async_knowing
    async def create(
        self,
        *,
        user_id: str,
        provider: str | None = None,
        model: str | None = None,
        key: str | None = None,
        system_prompt: str | None = None,
        settings: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        on_failure: str | None = None,
        on_ambiguous: str | None = None,
        max_attempts: int | None = None,
        max_cost_usd: Decimal | float | str | None = None,
        idle_ttl: timedelta | None = None,
        tools: Tools | None = None,
        max_tool_rounds: int | None = None,
        response_format: ResponseFormat | None = None,
        on_context_full: str | None = None,
        fallback: Fallback | None = None,
        thread: str | None = None,
        prompt: Prompt | None = None,
        observers: Sequence[str] | None = None,
        adopt: str | None = None,
        template: TemplateRef | None = None,
        variables: Mapping[str, str | float] | None = None,
        keep_content: timedelta | None = None,
        history: History | None = None,
        key_id: str | None = None,
    ) -> SessionRecord:
        """Create a session, or get the one that `key` stands for.

        - `provider`, `model`: who answers; the mock unless it is said.
        - `settings`: for the provider: temperature, max_output_tokens, thread, …
        - `metadata`: kept with the session, never sent to a vendor.
        - `on_failure`: what a failed turn means for those behind it: `continue`, as it is unless it
          is said, or `pause`.
        - `on_ambiguous`: what is done where nobody can tell whether a request was executed:
          `reconcile` (ask the provider), as it is unless it is said, `retry`, or `hold` for an
          operator.
        - `max_attempts`: of each turn; 5 unless it is said.
        - `max_cost_usd`: of all its turns together, from now on: a budget of the session's, for the
          period `total`. Of a session that the key finds, it stays as it is.
        - `idle_ttl`: archived when nothing happened for so long, in whole seconds.
        - `tools`: that the model may call. Those that a worker runs, by their names, as
          `turnmill.tool` has made them, or as `{"name", "approval": True}` where somebody has to
          agree here; and those whose calls `turn.submit_tool_outputs` answers, within `expires`
          seconds, as `{"name", "description", "parameters", "expires"}`.
        - `max_tool_rounds`: how often a turn may call tools before it fails; 16 unless set.
        - `response_format`: what the text of replies has to fit: a pydantic model, or a JSON
          schema of an object.
        - `on_context_full`: what is done when a conversation outgrows its model: `error`,
          `truncate` or `summarise`.
        - `fallback`: who else is asked, in this order, where the provider cannot answer:
          `"anthropic/claude-sonnet-4-5"`, or `{"provider", "model", "settings"}`.
        - `thread`: where the thread is kept: `chain`, `conversation` or `client`.
        - `prompt`: a prompt that the vendor keeps, by its id, or as `{"id", "version",
          "variables"}`.
        - `observers`: names of observers that are told of this session, besides those that are told
          of all: workers have them as `name?` in TURNMILL_OBSERVERS.
        - `adopt`: a thread that exists at the vendor, and is gone on with: `conv_…` or `resp_…`.
        - `template`: of `client.templates`, by its name, or as `name@version`: what it says holds
          unless it is said here; settings and metadata are put into its own. The session keeps what
          it is made with, whatever becomes of the template.
        - `variables`: what stands in the places of the template's texts.
        - `keep_content`: what was said goes so long after its turn has ended; figures stay. None:
          as its user's, or else everybody's.
        - `history`: what was said elsewhere, up to a reply: messages as OpenAI, Anthropic or
          ShareGPT write them, or `Message`s. It stands in the session as turns that have succeeded,
          and were sent to nobody, in the place of a template's opening messages. Of a session that
          the key finds, nothing is added.
        - `key_id`: a key of your own, as the keyring or TURNMILL_KMS names it, that wraps the
          session's data key. Workers have to read what is said, so it is no end-to-end encryption.

        All from `tools` to `observers` stand in `settings`, where they may be given as well.

        A provider that this process cannot see is accepted: the worker knows. Raises InvalidInput,
        CannotAdopt, TemplateNotFound, SessionArchived, Conflict when the key belongs to another
        user, or another session goes on with the conversation that is to be adopted.
        """
        longest = self._executor.settings.max_text_bytes
        turns: Sequence[tuple[Message, ...]] = ()
        if history is not None:
            from turnmill.verbs.lifecycle import begun_with  # noqa: PLC0415  few have any

            system_prompt, turns = begun_with(history, system_prompt, max_text_bytes=longest)
        given: dict[str, Any] = {
            "user_id": user_id,
            "provider": provider,
            "model": model,
            "key": key,
            "system_prompt": system_prompt,
            "settings": settings,
            "metadata": metadata,
            "on_failure": on_failure,
            "on_ambiguous": on_ambiguous,
            "max_attempts": max_attempts,
            "idle_ttl": idle_ttl,
            "tools": tools,
            "max_tool_rounds": max_tool_rounds,
            "response_format": response_format,
            "on_context_full": on_context_full,
            "fallback": fallback,
            "thread": thread,
            "prompt": prompt,
            "observers": observers,
            "adopt": adopt,
            "keep_content": keep_content,
            "key_id": key_id,
            "max_text_bytes": longest,
        }
        rest: dict[str, Any] = {"max_cost_usd": max_cost_usd, "history": turns}
        backpressure = self._executor.backpressure
        if template is None and variables is None:
            new = intake.new_session(**given)
            return await self._executor.run(sessions.create(new, backpressure, **rest))
        from turnmill.verbs import templated  # noqa: PLC0415  many use none

        made = templated.create(template, variables, given, backpressure, **rest)
        return await self._executor.run(made)

    async def get(self, session: SessionRef) -> SessionRecord:
        """Return the session as it stands now, or raise SessionNotFound."""
        return await self._executor.run(sessions.get(session))

    async def list(
        self,
        *,
        user_id: str | None = None,
        status: SessionStatus | str | None = None,
        id_prefix: str | None = None,
        after: SessionId | None = None,
        limit: int = 100,
    ) -> list[SessionRecord]:
        """Return up to `limit` sessions, newest first; `after` is the last id of a page.

        `id_prefix`: how their ids begin, by eight digits or more.
        """
        verb = sessions.find(
            user_id=user_id, status=status, id_prefix=id_prefix, after=after, limit=limit
        )
        return await self._executor.run(verb)

    @cached_property
    def participants(self) -> "AsyncParticipants":
        """Who takes part in a session, and how far each has read."""
        from turnmill.aio.participants import AsyncParticipants  # noqa: PLC0415

        return AsyncParticipants(self._executor)

    async def kept(self, session: SessionRef) -> Keeping:
        """Return how many answers and threads of the session vendors keep, by ids of their own."""
        return await self._executor.run(sessions.kept(session))

    async def compactions(self, session: SessionRef) -> "Sequence[CompactionRecord]":
        """Return what its model is no longer shown, oldest first; the last one counts.

        Empty where nothing was too long, or the session does not let anything be left out: see its
        setting `on_context_full`. What was said stays in `history`, all of it.
        """
        return await self._executor.run(sessions.compactions(session))

    async def history(self, session: SessionRef) -> AsyncIterator[MessageRecord]:
        """Yield all messages, ordered by turn, then position; read in pages.

        A note to participants stands behind the turn that was the last one then.
        """
        from turnmill.verbs import people  # noqa: PLC0415  many read none

        target = await self._executor.run(sessions.id_of(session))
        page = await self._executor.run(people.history(target))
        while page:
            for message in page:
                yield message
            page = await self._executor.run(people.history(target, after=people.behind(page[-1])))

    @async_knowing
    async def update(
        self,
        session: SessionRef,
        *,
        model: str | Unchanged = UNCHANGED,
        system_prompt: str | Unchanged | None = UNCHANGED,
        settings: Mapping[str, Any] | Unchanged | None = UNCHANGED,
        metadata: Mapping[str, Any] | Unchanged | None = UNCHANGED,
        on_failure: str | Unchanged = UNCHANGED,
        on_ambiguous: str | Unchanged = UNCHANGED,
        max_attempts: int | Unchanged = UNCHANGED,
        max_cost_usd: Decimal | float | str | Unchanged | None = UNCHANGED,
        idle_ttl: timedelta | Unchanged | None = UNCHANGED,
        tools: Tools | Unchanged | None = UNCHANGED,
        max_tool_rounds: int | Unchanged | None = UNCHANGED,
        response_format: ResponseFormat | Unchanged | None = UNCHANGED,
        on_context_full: str | Unchanged | None = UNCHANGED,
        fallback: Fallback | Unchanged | None = UNCHANGED,
        thread: str | Unchanged | None = UNCHANGED,
        prompt: Prompt | Unchanged | None = UNCHANGED,
        keep_content: timedelta | Unchanged | None = UNCHANGED,
        if_version: int | None = None,
        observers: Sequence[str] | Unchanged | None = UNCHANGED,
    ) -> SessionRecord:
        """Change options of the session, as `create` explains them; the others stay as they are.

        `settings` takes the place of all that there are; those that have names of their own are put
        into them, or, with None, taken out. A turn that runs keeps what it was given.

        - `if_version`: the `version` of the session that this was decided by. Where somebody has
          changed it meanwhile, nothing is changed, and VersionConflict raised.

        Raises InvalidInput, SessionNotFound, VersionConflict.
        """
        values = intake.session_options(
            model=model,
            system_prompt=system_prompt,
            settings=settings,
            metadata=metadata,
            on_failure=on_failure,
            on_ambiguous=on_ambiguous,
            max_attempts=max_attempts,
            idle_ttl=idle_ttl,
            tools=tools,
            max_tool_rounds=max_tool_rounds,
            response_format=response_format,
            on_context_full=on_context_full,
            fallback=fallback,
            thread=thread,
            prompt=prompt,
            keep_content=keep_content,
            observers=observers,
            max_text_bytes=self._executor.settings.max_text_bytes,
        )
        verb = sessions.update(session, values, max_cost_usd=max_cost_usd, if_version=if_version)
        return await self._executor.run(verb)
