"""`turnmill sessions`: conversations, listed, looked at, and put away."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from turnmill.actor import os_user
from turnmill.cli.context import (
    advise,
    code_of,
    confirm,
    json_option,
    nothing_to_do,
    open_client,
    yes_option,
)
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import page_options, print_page
from turnmill.cli.short_ids import session_of, turn_of
from turnmill.domain.states import Running, SessionStatus
from turnmill.show.deletion_view import print_deletion, print_imported
from turnmill.show.session_view import (
    SESSIONS,
    print_latest,
    print_session,
    print_status,
)
from turnmill.show.tables import print_outcome
from turnmill.show.terminal import on_one_line, tell
from turnmill.show.wording import count, duration

if TYPE_CHECKING:
    from turnmill.store.records import SessionRecord

F = TypeVar("F", bound=Callable[..., Any])

_STATUSES = [status.value for status in SessionStatus if status is not SessionStatus.DELETED]
_LATEST = 10  #: turns of a session that `show` shows

session_argument = click.argument("session", metavar="SESSION")
timeout_option = click.option(
    "--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Wait for no longer than that."
)


def running_option(default: str, help_text: str) -> Callable[[F], F]:
    """Return an option that says what becomes of turns that have not ended."""
    kinds = click.Choice([one.value for one in Running])
    return click.option("--running", type=kinds, default=default, show_default=True, help=help_text)


@click.group("sessions", cls=CommandGroup)
def command() -> None:
    """List, show, archive, fork, move, import and delete sessions. SESSION is a key or an id."""


@command.command("ls")
@click.option("--user", metavar="USER", help="Of this user only.")
@click.option("--status", type=click.Choice(_STATUSES))
@page_options("session")
def ls(
    *, user: str | None, status: str | None, limit: int, after: str | None, as_json: bool
) -> None:
    """List sessions, newest first."""
    with open_client() as client:
        print_page(
            partial(client.sessions.list, user_id=user, status=status),
            SESSIONS,
            find=partial(session_of, client),
            after=after,
            limit=limit,
            as_json=as_json,
            nothing='no such sessions; `turnmill send "Hello"` makes one',
        )


@command.command("show")
@session_argument
@click.option("--text", is_flag=True, help="With all that was said.")
@json_option
def show(*, session: str, text: bool, as_json: bool) -> None:
    """Show a session and its latest turns; with --text, the conversation."""
    with open_client() as client:
        found = session_of(client, session)
        history = client.sessions.history(found) if text else None
        print_session(
            found,
            client.sessions.kept(found),
            left_out=client.sessions.compactions(found),
            history=history,
            as_json=as_json,
        )
        if text or as_json:
            return
        if latest := client.turns.list(session=found, limit=_LATEST):
            print_latest(latest)
            advise(f"what was said: turnmill sessions show {found.id} --text")


@command.command("archive")
@session_argument
@running_option("refuse", "Turns that have not ended: refuse, wait for them, or cancel them.")
@timeout_option
@json_option
def archive(*, session: str, running: str, timeout: float | None, as_json: bool) -> None:
    """Refuse messages from now on; the history stays."""
    with open_client() as client:
        found = session_of(client, session)
        archived = client.sessions.archive(found, running=running, timeout=timeout)
        _tell_status(found, archived, as_json=as_json)


@command.command("restore")
@session_argument
@json_option
def restore(*, session: str, as_json: bool) -> None:
    """Let an archived session take messages again."""
    with open_client() as client:
        found = session_of(client, session)
        _tell_status(found, client.sessions.restore(found), as_json=as_json)


@command.command("fork")
@session_argument
@click.option("--at", metavar="TURN", help="The last turn that is copied; all, unless given.")
@click.option("--key", metavar="KEY", help="Of the new session.")
@click.option("--provider", metavar="PROVIDER", help="Of the new session; that of the old one.")
@click.option("--model", metavar="MODEL", help="Of the new session; that of the old one.")
@json_option
def fork(*, session: str, at: str | None, as_json: bool, **options: Any) -> None:
    """Create a session that begins with the history of this one, and goes on by itself."""
    with open_client() as client:
        last = None if at is None else turn_of(client, at)
        made = client.sessions.fork(session_of(client, session), at=last, **options)
        print_status(made, as_json=as_json)


@command.command("move")
@session_argument
@click.option("--provider", metavar="PROVIDER")
@click.option("--model", metavar="MODEL")
@running_option("refuse", "A turn that has begun: refuse, wait for it, or cancel it.")
@timeout_option
@json_option
def move(*, session: str, as_json: bool, **options: Any) -> None:
    """Let another provider or model answer from now on; the history goes along."""
    with open_client() as client:
        moved = client.sessions.move(session_of(client, session), **options)
    if as_json:
        print_status(moved, as_json=True)
    else:
        tell(f"{moved.id}  asks {on_one_line(f'{moved.provider} {moved.model}')}")


@command.command("import")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False))
@click.option("--user", metavar="USER", help="Whose they are; you, unless given.")
@click.option("--provider", default="mock", show_default=True)
@click.option("--model", default="mock", show_default=True)
@click.option("--dry-run", is_flag=True, help="Read the file, and write nothing.")
@json_option
def import_file(*, path: str, user: str | None, as_json: bool, **options: Any) -> int:
    """Make a session of each line of a JSONL file: a conversation that was had elsewhere.

    As OpenAI ({"messages": …}), Anthropic ({"system", "messages"}) or ShareGPT ({"conversations"})
    write it. The same file again makes no session twice. A last message that nobody has answered is
    left out, and counted.
    """
    from turnmill.cli.importing import import_sessions, read_conversations

    with open_client() as client:
        found = read_conversations(path, max_text_bytes=client.settings.max_text_bytes)
        told = import_sessions(client, found, user=user or os_user(), **options)
    print_imported(told, as_json=as_json)
    return code_of(told.made + told.known, wanted=told.lines)


@command.command("pause")
@session_argument
@json_option
def pause(*, session: str, as_json: bool) -> None:
    """Start no turn of the session until it is resumed; messages are still accepted."""
    with open_client() as client:
        found = session_of(client, session)
        _tell_status(found, client.sessions.pause(found), as_json=as_json)


@command.command("resume")
@session_argument
@json_option
def resume(*, session: str, as_json: bool) -> None:
    """Let the turns of a paused session run again."""
    with open_client() as client:
        found = session_of(client, session)
        _tell_status(found, client.sessions.resume(found), as_json=as_json)


@command.command("delete")
@session_argument
@running_option("wait", "A turn that runs: let it end first, cancel it, or refuse.")
@yes_option
@json_option
def delete(*, session: str, running: str, yes: bool, as_json: bool) -> None:
    """Remove a session with every row; a turn that runs is not cut, its rows go after it."""
    with open_client() as client:
        found = session_of(client, session)
        turns = found.turns_succeeded + found.turns_failed + found.unfinished
        name = f"session {found.key or found.id} of {found.user_id}"
        confirm(f"Delete {name} with its {count(turns, 'turn')} for good?", yes=yes)
        report = client.sessions.delete(found, running=running)
    print_deletion(report, as_json=as_json)


@command.command("deletion")
@click.argument("session", metavar="ID")
@json_option
def deletion(*, session: str, as_json: bool) -> None:
    """Show what has become of a session that was deleted, or purged."""
    with open_client() as client:
        print_deletion(client.sessions.deletion(session), as_json=as_json)


@command.command("keep-content")
@click.option("--user", metavar="USER", required=True, help="In whose sessions.")
@click.option("--days", type=click.FloatRange(0, min_open=True), help="For so long.")
@click.option("--as-everybody", is_flag=True, help="Take back what was set.")
@json_option
def keep_content(*, user: str, days: float | None, as_everybody: bool, as_json: bool) -> None:
    """Show, or set, for how long what is said in a user's sessions is kept; figures stay."""
    if days is not None and as_everybody:
        raise click.UsageError("--days sets what --as-everybody takes back: say one of them")
    with open_client() as client:
        before = client.sessions.content_kept(user)
        if days is not None or as_everybody:
            kept = None if days is None else timedelta(seconds=round(days * 86_400))
            nothing_to_do(kept == before, "that is so already")
            client.sessions.keep_content(user, kept)
        kept = client.sessions.content_kept(user)
    told = "as everybody's" if kept is None else duration(kept)
    document = {"user_id": user, "keep_content": kept}
    print_outcome(f"content of {on_one_line(user)}: {told}", document, as_json=as_json)


def _tell_status(before: SessionRecord, after: SessionRecord, *, as_json: bool) -> None:
    nothing_to_do(before.status is after.status, f"it is {after.status} already")
    print_status(after, as_json=as_json)
