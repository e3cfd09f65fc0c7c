"""`turnmill sessions`: conversations, listed, looked at, and put away."""

from __future__ import annotations

from functools import partial

import click

from turnmill.cli.context import advise, confirm, json_option, open_client, yes_option
from turnmill.cli.listing import page_options, print_page
from turnmill.cli.short_ids import session_of
from turnmill.domain.states import SessionStatus
from turnmill.show.session_view import (
    SESSIONS,
    print_deleted,
    print_latest,
    print_session,
    print_status,
)

_STATUSES = [status.value for status in SessionStatus if status is not SessionStatus.DELETED]
_LATEST = 10  #: turns of a session that `show` shows

session_argument = click.argument("session", metavar="SESSION")


@click.group("sessions")
def command() -> None:
    """List, show, archive and delete sessions. SESSION is a key or an id."""


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
@json_option
def archive(*, session: str, as_json: bool) -> None:
    """Refuse messages from now on; the history stays."""
    with open_client() as client:
        print_status(client.sessions.archive(session_of(client, session)), as_json=as_json)


@command.command("pause")
@session_argument
@json_option
def pause(*, session: str, as_json: bool) -> None:
    """Start no turn of the session until it is resumed; messages are still accepted."""
    with open_client() as client:
        print_status(client.sessions.pause(session_of(client, session)), as_json=as_json)


@command.command("resume")
@session_argument
@json_option
def resume(*, session: str, as_json: bool) -> None:
    """Let the turns of a paused session run again."""
    with open_client() as client:
        print_status(client.sessions.resume(session_of(client, session)), as_json=as_json)


@command.command("delete")
@session_argument
@yes_option
@json_option
def delete(*, session: str, yes: bool, as_json: bool) -> None:
    """Remove a session with every row; a turn that runs is not cut, its rows go after it."""
    with open_client() as client:
        found = session_of(client, session)
        turns = found.turns_succeeded + found.turns_failed + found.unfinished
        name = f"session {found.key or found.id} of {found.user_id}"
        confirm(f"Delete {name} with its {turns} turns for good?", yes=yes)
        client.sessions.delete(found)
    print_deleted(found, as_json=as_json)
