# Made from aio/templates.py by `make sync`: change that.
"""Templates: set-ups of sessions by name and version."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from turnmill.executor.thread import Executor, aside, knowing
from turnmill.store.records import SessionRecord
from turnmill.store.template_records import TemplateDiff, TemplateRecord, TemplateSync
from turnmill.verbs import template_files, templates
from turnmill.verbs.intake import Fallback, Prompt, ResponseFormat, Tools
from turnmill.verbs.refs import TemplateRef


class Templates:
    """`client.templates`: what a version says never changes, and sessions keep what they took."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @knowing
    def put(
        self,
        name: str,
        *,
        provider: str | None = None,
        model: str | None = None,
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
        layers: Sequence[str] | None = None,
        observers: Sequence[str] | None = None,
        keep_content: timedelta | None = None,
        thread: str | None = None,
        prompt: Prompt | None = None,
        opening: Sequence[Mapping[str, str]] | None = None,
        variables: Mapping[str, str | float | None] | None = None,
        note: str | None = None,
    ) -> TemplateRecord:
        """Let the template say this from now on, as a new version, which becomes the current one.

        Where the current version says just that already, it is returned, and nothing is written.
        Sessions that were made from other versions stay as they are.

        - `system_prompt`: `{word}` is a place for a variable, `{{word}}` is `{word}` itself; all
          other braces are text.
        - `opening`: what a session begins with, as `{"role": "user" or "assistant", "content"}`;
          variables have places there, too. What the assistant says stands in the history, with
          what was asked before it, and is sent to nobody; what a user says at the end is sent as
          soon as the session is made.
        - `variables`: what stands in places unless it is given; a place without has to be given.
        - `layers`: those of the worker's that its turns go through, by name.
        - `note`: what is said of this version.

        All others are those of `sessions.create`. Raises InvalidInput.
        """
        new = templates.new_template(
            name,
            provider=provider,
            model=model,
            system_prompt=system_prompt,
            settings=settings,
            metadata=metadata,
            on_failure=on_failure,
            on_ambiguous=on_ambiguous,
            max_attempts=max_attempts,
            max_cost_usd=max_cost_usd,
            idle_ttl=idle_ttl,
            tools=tools,
            max_tool_rounds=max_tool_rounds,
            response_format=response_format,
            on_context_full=on_context_full,
            fallback=fallback,
            layers=layers,
            observers=observers,
            keep_content=keep_content,
            thread=thread,
            prompt=prompt,
            opening=opening,
            variables=variables,
            note=note,
            max_text_bytes=self._executor.settings.max_text_bytes,
        )
        return self._executor.run(templates.put(new))

    def get(self, template: TemplateRef) -> TemplateRecord:
        """Return the current version of `name`, or that of `name@version`; or TemplateNotFound."""
        return self._executor.run(templates.get(template))

    def list(self, *, after: str | None = None, limit: int = 100) -> list[TemplateRecord]:
        """Return the current versions of up to `limit` templates, by name; `after` is a name."""
        return self._executor.run(templates.find(after=after, limit=limit))

    def versions(
        self, template: TemplateRef, *, before: int | None = None, limit: int = 100
    ) -> Sequence[TemplateRecord]:
        """Return up to `limit` versions, newest first; `before` is the last number of a page."""
        verb = templates.versions(template, before=before, limit=limit)
        return self._executor.run(verb)

    def diff(self, before: TemplateRef, after: TemplateRef | None = None) -> TemplateDiff:
        """Return what differs between two versions of a template; None: the current one."""
        return self._executor.run(templates.diff(before, after))

    def roll_back(self, template: TemplateRef, *, to: int) -> TemplateRecord:
        """Let an earlier version be current again; those behind it stay, and `put` adds another."""
        return self._executor.run(templates.roll_back(template, to=to))

    def remove(self, template: TemplateRef) -> None:
        """Forget a template with all its versions.

        Raises TemplateNotFound, and MoveRefused while there are sessions that were made from it.
        """
        self._executor.run(templates.remove(template))

    def sessions(
        self, template: TemplateRef, *, after: object = None, limit: int = 100
    ) -> Sequence[SessionRecord]:
        """Return up to `limit` sessions made from it, newest first; of `name`, of all versions."""
        verb = templates.sessions(template, after=after, limit=limit)
        return self._executor.run(verb)

    def uses(self, template: TemplateRef) -> Mapping[int, int]:
        """Return how many sessions were made from each version that has any."""
        return self._executor.run(templates.uses(template))

    def sync(self, folder: str | Path, *, dry_run: bool = False) -> TemplateSync:
        """Put what the `.yaml` files of a folder say, all of it or, after an error, nothing.

        A file is named as its template, and says what `put` takes; `idle_ttl` and `keep_content` in
        seconds. With `dry_run`, only tell what would be put. Raises InvalidInput, which names what
        is wrong in which file, or MissingExtra.
        """
        limit = self._executor.settings.max_text_bytes
        found = aside(template_files.templates_in, folder, max_text_bytes=limit)
        return self._executor.run(templates.sync(found, dry_run=dry_run))
