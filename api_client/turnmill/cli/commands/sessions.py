"""`turnmill sessions`: conversations, listed, looked at, and put away."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from turnmill.cli.context import confirm, json_option, open_client, say, yes_option
from turnmill.domain.states import SessionStatus
from turnmill.show.tables import fields, print_facts, print_json, print_table, stdout_console
from turnmill.show.wording import dollars, duration, moment_text, relative, styled

if TYPE_CHECKING:
    from turnmill.store.kept import Keeping
    from turnmill.store.records import SessionRecord
    from turnmill.sync.client import Client

_COLUMNS = (
    "id",
    "user",
    "status",
    "open",
    "active",
    "key",
    "asks",
    "replies",
    "failed",
    "tokens",
    "cost",
)
_NUMBERS = ("open", "replies", "failed", "tokens", "cost")
_TURN_COLUMNS = ("turn", "id", "state", "accepted", "attempts", "error")
_STATUSES = [status.value for status in SessionStatus if status is not SessionStatus.DELETED]

session_argument = click.argument("session", metavar="SESSION")


@click.group("sessions")
def command() -> None:
    """List, show, archive and delete sessions. SESSION is a key or an id."""


@command.command("ls")
@click.option("--user", metavar="USER", help="Of this user only.")
@click.option("--status", type=click.Choice(_STATUSES))
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--after", metavar="SESSION", help="Go on after the last one of the page before.")
@json_option
def ls(
    *, user: str | None, status: str | None, limit: int, after: str | None, as_json: bool
) -> None:
    """List sessions, newest first."""
    with open_client() as client:
        found = client.sessions.list(
            user_id=user,
            status=status,
            after=None if after is None else client.sessions.get(after).id,
            limit=limit,
        )
    if as_json:
        for session in found:
            print_json(_document(session))
    elif not found:
        say('no such sessions; `turnmill send "Hello"` makes one')
    else:
        print_table(_COLUMNS, map(_row, found), right=_NUMBERS, spare=_COLUMNS[4:])
    if len(found) == limit:
        say(f"more: --after {found[-1].id}")


@command.command("show")
@session_argument
@click.option("--text", is_flag=True, help="With all that was said.")
@json_option
def show(*, session: str, text: bool, as_json: bool) -> None:
    """Show a session and its latest turns; with --text, the conversation."""
    with open_client() as client:
        found = client.sessions.get(session)
        kept = client.sessions.kept(found)
        if as_json:
            content = _content(client, found, text=text)
            print_json(_document(found) | {"kept": fields(kept, "count", "unwanted_at")} | content)
            return
        print_facts((*_facts(found), *_at_vendors(kept)))
        click.echo()
        if text:
            _print_conversation(client, found)
        else:
            _print_turns(client, found)


@command.command("archive")
@session_argument
@json_option
def archive(*, session: str, as_json: bool) -> None:
    """Refuse messages from now on; the history stays."""
    with open_client() as client:
        _tell(client.sessions.archive(session), as_json=as_json)


@command.command("pause")
@session_argument
@json_option
def pause(*, session: str, as_json: bool) -> None:
    """Start no turn of the session until it is resumed; messages are still accepted."""
    with open_client() as client:
        _tell(client.sessions.pause(session), as_json=as_json)


@command.command("resume")
@session_argument
@json_option
def resume(*, session: str, as_json: bool) -> None:
    """Let the turns of a paused session run again."""
    with open_client() as client:
        _tell(client.sessions.resume(session), as_json=as_json)


@command.command("delete")
@session_argument
@yes_option
@json_option
def delete(*, session: str, yes: bool, as_json: bool) -> None:
    """Remove a session with every row; a turn that runs is not cut, its rows go after it."""
    with open_client() as client:
        found = client.sessions.get(session)
        confirm(f"Delete session {found.key or found.id} of {found.user_id} for good?", yes=yes)
        client.sessions.delete(found)
    if as_json:
        print_json({"id": found.id, "deleted": True})
    else:
        click.echo(f"{found.id}  deleted")


def _tell(session: SessionRecord, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(session))
    else:
        click.echo(f"{session.id}  {session.status}")


def _document(session: SessionRecord) -> dict[str, Any]:
    names = [name for name in session.__dataclass_fields__ if name != "system_prompt"]
    return dict(fields(session, *names))


def _content(client: Client, session: SessionRecord, *, text: bool) -> dict[str, Any]:
    if not text:
        return {}
    names = ("turn_id", "seq", "position", "role", "state", "text", "created_at")
    history = [fields(one, *names) for one in client.sessions.history(session)]
    return {"system_prompt": session.system_prompt, "messages": history}


def _row(session: SessionRecord) -> tuple[object, ...]:
    return (
        session.id,
        session.user_id,
        styled(session.status),
        session.unfinished,
        relative(session.last_active_at, now=datetime.now(UTC)),
        session.key,
        f"{session.provider} {session.model}",
        session.turns_succeeded,
        session.turns_failed,
        f"{session.input_tokens + session.output_tokens:,}",
        _cost(session),
    )


def _cost(session: SessionRecord) -> str:
    """Return the cost; `+` says that some attempts have no known price."""
    if session.unpriced_attempts and not session.cost_usd:
        return "n/a"
    return dollars(session.cost_usd) + ("+" if session.unpriced_attempts else "")


def _facts(session: SessionRecord) -> Iterator[tuple[str, object]]:
    now = datetime.now(UTC)
    yield "session", str(session.id)
    if session.key is not None:
        yield "key", session.key
    yield "user", session.user_id
    yield "status", styled(session.status)
    yield "asks", f"{session.provider} {session.model}"
    yield "created", moment_text(session.created_at)
    yield "active", relative(session.last_active_at, now=now)
    if session.idle_ttl is not None:
        yield "archived", f"after {duration(session.idle_ttl)} without a message"
    done = f"{session.turns_succeeded} replies, {session.turns_failed} failed"
    yield "turns", f"{done}, {session.unfinished} unfinished"
    if session.head_turn_id is not None:
        yield "next", f"turn {session.head_turn_id}: turnmill turns show {session.head_turn_id}"
    tokens = f"{session.input_tokens:,} tokens in, {session.output_tokens:,} out"
    yield "used", f"{tokens}, {_cost(session)}"


def _at_vendors(kept: Keeping) -> Iterator[tuple[str, object]]:
    if kept.unwanted_at is not None:
        since = relative(kept.unwanted_at, now=datetime.now(UTC))
        yield "vendor", f"keeps {kept.count} answers or threads, to be deleted since {since}"
    elif kept.count:
        yield "vendor", f"keeps {kept.count} answers or threads until the session ends"


def _print_conversation(client: Client, session: SessionRecord) -> None:
    console = stdout_console()
    if session.system_prompt is not None:
        console.print("system", style="bold")
        console.print(session.system_prompt + "\n", markup=False)
    for message in client.sessions.history(session):
        console.print(message.role, style="bold", end=" ")
        console.print(f"turn {message.seq}, {message.state}", style="dim")
        console.print(message.text + "\n", markup=False)


def _print_turns(client: Client, session: SessionRecord) -> None:
    found = client.turns.list(session=session, limit=10)
    rows = []
    for turn in reversed(found):
        record, now = turn.record, datetime.now(UTC)
        accepted = relative(record.created_at, now=now)
        attempts = f"{record.attempt}/{record.max_attempts}"
        rows.append(
            (record.seq, record.id, styled(record.state), accepted, attempts, record.error_code)
        )
    if rows:
        print_table(_TURN_COLUMNS, rows, right=("turn",), spare=("attempts", "accepted"))
        say(f"what was said: turnmill sessions show {session.id} --text")
