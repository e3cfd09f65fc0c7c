"""`turnmill send`: one message, and its reply if it is waited for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from turnmill.cli import FAILED, INTERRUPTED, OK, STILL_RUNNING
from turnmill.cli.awaited import what_holds
from turnmill.cli.context import advise, json_option, open_client, say, show_error
from turnmill.cli.streams import typed
from turnmill.cli.talk import conversation_options, line_about, open_session, tell_reply
from turnmill.cli.waiting import explaining, waiting
from turnmill.cli.watching import print_events, watch
from turnmill.domain.arguments import wait_seconds
from turnmill.domain.errors import NoReply, TurnTimeout
from turnmill.show.people_view import print_note
from turnmill.show.tables import print_json
from turnmill.show.terminal import tell
from turnmill.show.turn_view import as_document, look_at
from turnmill.show.wording import duration

if TYPE_CHECKING:
    from turnmill.domain.content import Said
    from turnmill.store.people_records import Note
    from turnmill.sync.client import Client
    from turnmill.sync.turns import Turn
    from turnmill.verbs.reply import Reply


@click.command("send")
@click.argument("text", required=False)
@conversation_options
@click.option("--wait", is_flag=True, help="Stay for the reply.")
@click.option("--stream", is_flag=True, help="Stay, and show the reply while it comes.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    help="Seconds to wait; then exit code 4, and the turn goes on.  [default: without end]",
)
@click.option("--idempotency-key", metavar="KEY", help="Sending again finds the same turn.")
@click.option(
    "--lane",
    type=click.Choice(["interactive", "bulk"]),
    default="interactive",
    show_default=True,
    help="bulk: nobody waits for it.",
)
@click.option(
    "--attach",
    "attached",
    metavar="FILE",
    multiple=True,
    help="With this file: a path, an http(s) URL, or the id of one. May be said several times.",
)
@click.option(
    "--reply-as",
    type=click.Choice(["text", "audio"]),
    help="audio: the reply is spoken, too.",
)
@click.option(
    "--save-audio",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True),
    help="Stay, and write the spoken reply to FILE.",
)
@click.option("--sender", metavar="NAME", help="Who of several people says it.")
@click.option(
    "--to", type=click.Choice(["participants"]), help="A note to people alone: no turn, no reply."
)
@click.option("--max-cost-usd", metavar="USD", help="Fail rather than cost more, such as 0.05.")
@json_option
def command(
    *,
    text: str | None,
    wait: bool,
    stream: bool,
    timeout: float | None,
    idempotency_key: str | None,
    lane: str,
    attached: tuple[str, ...],
    max_cost_usd: str | None,
    reply_as: str | None,
    save_audio: str | None,
    sender: str | None,
    to: str | None,
    as_json: bool,
    **conversation: Any,
) -> int:
    """Send TEXT (or, for -, what comes on stdin) to a session, or to a new one.

    With --attach a file may be all that is said, such as a question that was spoken.

    Returns as soon as the message stands in the store. With --wait the reply is all that goes to
    stdout; with --wait --json it is one object with usage, cost and every attempt. With --stream it
    is written as it comes; with --stream --json each event is one line. With --save-audio the reply
    is waited for, and what is to be heard of it goes to a file.
    """
    wait_seconds(timeout)  # before anything is sent
    if text is None and not attached:
        raise click.UsageError("Missing argument 'TEXT'; with --attach it may be left out.")
    if save_audio is not None:
        _require_a_place(save_audio)  # before anything is sent
        wait, reply_as = wait or not stream, reply_as or "audio"
    if reply_as == "text" and save_audio is not None:
        raise click.UsageError("There is nothing to be heard of a text: leave out --reply-as.")
    if timeout is not None and not (wait or stream):
        raise click.UsageError("Nothing is waited for: say --wait or --stream beside --timeout.")
    if to is not None and (wait or stream):
        raise click.UsageError("Nobody answers a note: leave out --wait and --stream.")
    options: Any = {
        "lane": lane,
        "stream": stream,
        "max_cost_usd": max_cost_usd,
        "attachments": list(attached),
        "reply_as": reply_as,
        "idempotency_key": idempotency_key,
        "sender": sender,
        "to": to,
    }
    with open_client() as client:
        message: Said = [] if text is None else text
        if text == "-":
            message = typed("text", most=client.settings.max_text_bytes)
        session = open_session(client, **conversation)
        sent: Turn | Note = client.send(session, message, **options)
        how: Any = {"timeout": timeout, "as_json": as_json, "save_audio": save_audio}
        if stream or wait:
            turn = cast("Turn", sent)
            return _watch(turn, **how) if stream else _wait(client, turn, **how)
        _tell_sent(sent, as_json=as_json)
        return OK


def _tell_sent(turn: Turn | Note, *, as_json: bool) -> None:
    from turnmill.store.people_records import Note

    if isinstance(turn, Note):
        print_note(turn, as_json=as_json)
        return
    if as_json:
        state = turn.refresh().state
        accepted = {"id": turn.id, "session_id": turn.session_id, "state": state}
        print_json(accepted | {"created": turn.created})
        return
    tell(f"turn {turn.id}")
    if not turn.created:
        say("the idempotency key stood for this turn already: nothing was sent")
    advise(f"next: turnmill turns show {turn.id} --text")
    advise(f'      turnmill send "…" --session {turn.session_id}')


def _left(turn: Turn) -> int:
    """Say that a turn goes on though nobody waits for it any more."""
    say(f"turn {turn.id} goes on without you")
    advise(f"next: turnmill turns show {turn.id} --text")
    advise(f"      turnmill turns cancel {turn.id}")
    return INTERRUPTED


def _require_a_place(path: str) -> None:
    """Refuse what no sound can be written to: the reply would be paid for, and not be heard."""
    if path == "-":
        raise click.UsageError("What is said goes to stdout: --save-audio takes a file, or a FIFO.")
    folder = Path(path).parent
    if not folder.is_dir():
        raise click.UsageError(f"--save-audio: {folder} is no folder.")


def _save_audio(reply: Reply, path: str | None) -> None:
    """Write what is to be heard, where that was asked for."""
    if path is None:
        return
    if reply.audio is None:
        say("there is nothing to be heard: the reply has no words")
        return
    reply.audio.save(path)
    heard = "" if reply.audio.duration is None else f", {duration(reply.audio.duration)}"
    say(f"audio: {path} ({reply.audio.media_type}{heard})")


def _watch(turn: Turn, *, timeout: float | None, as_json: bool, save_audio: str | None) -> int:
    say(f"turn {turn.id}")
    try:
        with explaining(partial(what_holds, turn)):
            if as_json:
                print_events(turn, timeout=timeout)
            else:
                watch(turn, timeout=timeout)
        reply = turn.result(timeout=timeout)
    except KeyboardInterrupt:
        return _left(turn)
    except (NoReply, TurnTimeout) as error:
        show_error(error)
        advise(f"next: turnmill turns show {turn.id}")
        return STILL_RUNNING if isinstance(error, TurnTimeout) else FAILED
    if not as_json:
        tell_reply(reply, streamed=True)
        say(f"turn {turn.id}: {line_about(reply)}")
    _save_audio(reply, save_audio)
    return OK


def _wait(
    client: Client, turn: Turn, *, timeout: float | None, as_json: bool, save_audio: str | None
) -> int:
    try:
        with waiting(f"turn {turn.id} waits for its reply", why=partial(what_holds, turn)):
            reply = turn.result(timeout=timeout)
    except KeyboardInterrupt:
        return _left(turn)
    except (NoReply, TurnTimeout) as error:
        if not as_json:
            show_error(error)
            advise(f"next: turnmill turns show {turn.id}")
        code = STILL_RUNNING if isinstance(error, TurnTimeout) else FAILED
    else:
        if not as_json:
            tell_reply(reply, streamed=False)
            say(f"turn {turn.id}: {line_about(reply)}")
        _save_audio(reply, save_audio)
        code = OK
    if as_json:
        print_json(as_document(look_at(client, turn, text=True)))
    return code
