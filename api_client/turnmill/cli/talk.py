"""What `send` and `chat` share: whose conversation it is, and how a reply is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from turnmill.actor import os_user
from turnmill.cli.beside import refuse_beside
from turnmill.cli.short_ids import session_of
from turnmill.domain.errors import Conflict
from turnmill.show.terminal import tell
from turnmill.show.wording import dollars, duration, percent, said, sources_of, tokens

if TYPE_CHECKING:
    from turnmill.store.records import SessionRecord
    from turnmill.sync.client import Client
    from turnmill.verbs.reply import Reply

_OPTIONS = (
    click.option(
        "--session", metavar="KEY|ID", help="Go on here. With --user, a new key makes a session."
    ),
    click.option("--user", metavar="USER", help="Who speaks.  [default: you]"),
    click.option("--provider", help="Of a new session.  [default: mock]"),
    click.option("--model", help="Of a new session.  [default: mock, for mock]"),
    click.option("--system-prompt", metavar="TEXT", help="Of a new session."),
    click.option(
        "--adopt", metavar="ID", help="Of a new session: a vendor's thread to go on with."
    ),
    click.option("--template", metavar="NAME[@VERSION]", help="That a new session is made from."),
    click.option(
        "--var",
        "variables",
        metavar="NAME=VALUE",
        multiple=True,
        help="What stands for a variable of the template. Again for another one.",
    ),
    click.option(
        "--fallback",
        metavar="PROVIDER/MODEL",
        multiple=True,
        help="Who answers where the provider cannot, of a new session. Again for another one.",
    ),
)


def conversation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which session is meant."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def open_session(
    client: Client,
    *,
    session: str | None,
    user: str | None,
    provider: str | None,
    model: str | None,
    system_prompt: str | None,
    fallback: tuple[str, ...],
    adopt: str | None = None,
    template: str | None = None,
    variables: tuple[str, ...] = (),
) -> SessionRecord:
    """Return the session that is meant, a new one where none is named.

    Raises SessionNotFound, UsageError when a new one would lack a model, or what is of new ones is
    said of one that stands, and Conflict where it stands with something else.
    """
    if session is not None and user is None:
        refuse_beside("--session", *_OF_NEW, why="say --user, too, where it is to be made")
        return session_of(client, session)
    if model is None and template is None and provider not in (None, "mock"):
        raise click.UsageError(f"name a model of {provider} with --model")
    found = client.sessions.create(
        user_id=os_user() if user is None else user,
        provider=provider,
        model=model,
        key=session,
        system_prompt=system_prompt,
        adopt=adopt,
        fallback=fallback or None,
        template=template,
        variables=dict(map(_variable, variables)) or None,
    )
    given = {"provider": provider, "model": model, "system_prompt": system_prompt}
    for name, one in given.items():
        if one is not None and one != getattr(found, name):
            raise Conflict(
                f"the session stands, and its {name} is another one",
                hint=f"leave --{name.replace('_', '-')} out, or take another --session",
            )
    return found


#: What says something of a session that is made.
_OF_NEW = ("provider", "model", "system_prompt", "adopt", "template", "variables", "fallback")


#: Tiers that nothing is said of.
_USUAL = frozenset({None, "", "default", "standard"})


def tell_reply(reply: Reply, *, streamed: bool) -> None:
    """Print a reply; of one whose words were shown as they came, the sources that it names."""
    told = sources_of(reply.parts) if streamed else said(reply.parts)
    if told or not streamed:
        tell(told)


def _variable(typed: str) -> tuple[str, str]:
    name, has_value, value = typed.partition("=")
    if not has_value:
        raise click.BadParameter("NAME=VALUE, such as product=Turnmill", param_hint="--var")
    return name, value


def line_about(reply: Reply) -> str:
    """Return where the time and the tokens went, in one line."""
    parts = [
        f"{duration(reply.timing.queued)} queued",
        f"{duration(reply.timing.provider)} at the provider",
        f"{tokens(reply.usage.total_tokens)} tokens",
    ]
    if reply.usage.cached_tokens:
        parts.append(f"{percent(reply.usage.cached_share)} of the input cached")
    if reply.cost_usd is not None:
        parts.append(dollars(reply.cost_usd))
    if reply.own_history is not None:
        parts.append(f"with our own history: the vendor's thread was {reply.own_history}")
    if reply.answered_because is not None:
        parts.append(f"answered by {reply.answered_by} ({reply.answered_because})")
    if len(reply.attempts) > 1:
        parts.append(f"{len(reply.attempts)} attempts")
    if reply.service_tier not in _USUAL:
        parts.append(f"in tier {reply.service_tier}")
    if reply.finish_reason != "stop":
        refusal = reply.refusal
        why = f" ({refusal.category})" if refusal is not None and refusal.category else ""
        parts.append(f"ended by {reply.finish_reason}{why}")
    return ", ".join(parts)
