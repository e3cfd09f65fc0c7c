"""`turnmill chat`: a conversation in a terminal, or line by line from a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from turnmill.cli import OK
from turnmill.cli.beside import is_typed
from turnmill.cli.context import advise, code_of, json_option, open_client, say, show_error
from turnmill.cli.held_up import HeldUp
from turnmill.cli.talk import conversation_options, line_about, open_session, tell_reply
from turnmill.cli.watching import watch
from turnmill.domain.errors import NoReply, TurnmillError
from turnmill.domain.states import TurnState
from turnmill.show.tables import print_json
from turnmill.show.terminal import on_one_line
from turnmill.show.turn_view import as_document, look_at
from turnmill.show.wording import said

if TYPE_CHECKING:
    from turnmill.store.records import SessionRecord
    from turnmill.sync.client import Client
    from turnmill.sync.turns import Turn

_PROMPT = "you> "
_QUIT = "/quit"
_HELP = f"/history  what was said    /session  which one it is    {_QUIT}  or Ctrl-D"


@click.command("chat")
@conversation_options
@click.option(
    "--stream/--no-stream",
    default=True,
    help="Show replies while they come, or when they are whole.  [default: on a terminal, stream]",
)
@json_option
def command(*, stream: bool, as_json: bool, **conversation: Any) -> int:
    """Talk: each line is a message, and its reply is waited for.

    Where a reply does not come within two seconds, what it waits for is said on stderr. Ctrl-C
    cancels a message that is being answered. With a pipe as stdin, replies go to stdout and
    all else to stderr; with --json, each reply is one object.
    """
    asked = stream and is_typed("stream")
    if asked and as_json:
        raise click.UsageError("each reply is one object with --json: leave out --stream")
    is_tty = sys.stdin.isatty()
    with open_client() as client:
        session = open_session(client, **conversation)
        streams = asked or (stream and sys.stdout.isatty() and not as_json)
        chat = Chat(client, session, as_json=as_json, streams=streams)
        if is_tty:
            say(f"{session.provider} {session.model}, session {session.id}\n{_HELP}\n")
        for line in _typed_lines() if is_tty else sys.stdin:
            if line.strip() == _QUIT:
                break
            chat.hear(line)
        advise(f"go on: turnmill chat --session {on_one_line(session.key or str(session.id))}")
    return OK if is_tty else code_of(chat.answered, wanted=chat.sent)


class Chat:
    """One conversation: what is typed is sent, and its reply shown before the next line."""

    def __init__(
        self, client: Client, session: SessionRecord, *, as_json: bool, streams: bool
    ) -> None:
        self.sent = 0
        self.answered = 0
        self._client = client
        self._session = session
        self._as_json = as_json
        self._streams = streams
        self._commands: Mapping[str, Callable[[], None]] = {
            "/history": self._show_history,
            "/session": lambda: say(f"session {session.id} of {on_one_line(session.user_id)}"),
            "/help": lambda: say(_HELP),
        }

    def hear(self, line: str) -> None:
        """Send a line and show the reply, or do what it commands; an error is shown."""
        text = line.strip()
        if text in self._commands:
            self._commands[text]()
        elif text.startswith("/"):
            say(f"there is no such command; {_HELP}")
        elif text:
            self.sent += 1
            try:
                self._await_reply(self._client.send(self._session, text, stream=self._streams))
            except TurnmillError as error:
                show_error(error)

    def _await_reply(self, turn: Turn) -> None:
        try:
            with HeldUp(turn.why, asked=f"{self._session.provider} is asked") as held_up:
                if self._streams:
                    watch(turn, held_up=held_up)
                reply = turn.result()
        except KeyboardInterrupt:
            told = "" if turn.cancel() is TurnState.CANCELLED else ": its worker closes the call"
            say(f"cancelled{told}")
        except NoReply as error:
            show_error(error)
            advise(f"next: turnmill turns show {turn.id}")
        else:
            self.answered += 1
            if not self._as_json:
                tell_reply(reply, streamed=self._streams)
                say(line_about(reply), dim=True)
        if self._as_json:
            print_json(as_document(look_at(self._client, turn, text=True)))

    def _show_history(self) -> None:
        for message in self._client.sessions.history(self._session):
            part = " (partial)" if message.partial else ""
            say(f"{message.role}{part}: {said(message.parts)}")


def _typed_lines() -> Iterator[str]:
    """Yield what a person types, until Ctrl-D or Ctrl-C; with the line editing that there is."""
    try:
        import readline  # noqa: F401  its import is what gives `input` a history
    except ImportError:
        say("no line editing here")
    while True:
        try:
            yield input(_PROMPT)
        except (EOFError, KeyboardInterrupt):
            say("")
            return
