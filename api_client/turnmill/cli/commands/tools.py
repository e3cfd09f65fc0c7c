"""`turnmill tools`: calls of tools that wait for somebody, and what he says to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from turnmill.actor import os_user
from turnmill.cli import OK
from turnmill.cli.context import advise, code_of, json_option, open_client, say
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import listing_options, page_options
from turnmill.cli.short_ids import session_of, turn_of
from turnmill.cli.streams import typed
from turnmill.domain.errors import (
    InvalidInput,
    MoveRefused,
    ToolCallNotFound,
    TurnmillError,
)
from turnmill.domain.states import BETWEEN_STEPS, FOR_APPROVAL, FOR_TOOL
from turnmill.show.call_listing import waiting_calls
from turnmill.show.listing import print_listing
from turnmill.show.tables import print_outcome
from turnmill.show.tool_listing import registered_tools

if TYPE_CHECKING:
    from turnmill.store.nouns.tool_calls import ToolCallRecord
    from turnmill.sync.turns import Turn

by_option = click.option("--by", metavar="NAME", help="Who says so.  [default: you]")
every_option = click.option("--all", "every", is_flag=True, help="All of the turn that wait.")


@click.group("tools", cls=CommandGroup)
def command() -> None:
    """List, approve, reject and answer calls of tools; list the tools themselves.

    TURN and CALL are ids, or as much of them as tells them from others. CALL may be left out where
    only one of the turn waits.
    """


@command.command("ls")
@click.option(
    "--for", "waits_for", type=click.Choice(sorted(BETWEEN_STEPS)), help="That wait for this only."
)
@click.option("--session", metavar="KEY|ID", help="Of this session only.")
@click.option("--user", metavar="USER", help="Of this user only.")
@click.option("--text", is_flag=True, help="With what they were called with.")
@page_options("turn")
def ls(
    *,
    waits_for: str | None,
    session: str | None,
    user: str | None,
    text: bool,
    limit: int,
    after: str | None,
    as_json: bool,
) -> None:
    """List calls that wait for approval, or for an output; those of the newest turns first."""
    with open_client() as client:
        wanted: dict[str, Any] = {
            "waits_for": waits_for,
            "session": None if session is None else session_of(client, session),
            "user_id": user,
        }
        last = None if after is None else turn_of(client, after).id
        found = client.turns.waiting_calls(after=last, limit=limit, **wanted)
        print_listing(found, waiting_calls(text=text), as_json=as_json)
        if not found:
            advise("no call waits for anybody")
        elif client.turns.waiting_calls(after=found[-1].turn_id, limit=1, **wanted):
            say(f"more: --after {found[-1].turn_id}")


@command.command("registered")
@listing_options
def registered(*, as_json: bool) -> int:
    """List the tools that a worker here would have, those of MCP servers too.

    Reads TURNMILL_TOOLS and TURNMILL_MCP of this environment, and asks the servers.
    """
    from turnmill.running_home import settings_of_home
    from turnmill_worker.tools.catalogue import catalogue

    found = catalogue(settings_of_home())
    print_listing(found.tools, registered_tools(), as_json=as_json)
    for name, reason in found.unreachable.items():
        say(f"MCP server {name} cannot be reached: {reason}")
    if not found.tools and not found.unreachable:
        advise("no tools: name them in TURNMILL_TOOLS, and MCP servers in TURNMILL_MCP")
    return 1 if found.unreachable else OK


@command.command("approve")
@click.argument("turn_id", metavar="TURN")
@click.argument("call_id", metavar="[CALL]", required=False)
@every_option
@by_option
@json_option
def approve(**given: Any) -> int:
    """Let calls be run that wait for approval."""

    def act(turn: Turn, call_id: str, by: str) -> str:
        turn.approve(call_id, by=by)
        return "approved: a worker runs it"

    return _decide(act, **given)


@command.command("reject")
@click.argument("turn_id", metavar="TURN")
@click.argument("call_id", metavar="[CALL]", required=False)
@click.option("--why", metavar="TEXT", default="", help="The model is told.")
@every_option
@by_option
@json_option
def reject(*, why: str, **given: Any) -> int:
    """Have calls not run that wait for approval; the model goes on without."""

    def act(turn: Turn, call_id: str, by: str) -> str:
        turn.reject(call_id, why, by=by)
        return "rejected: the model is told"

    return _decide(act, **given)


@command.command("submit")
@click.argument("turn_id", metavar="TURN")
@click.argument("call_id", metavar="[CALL]", required=False)
@click.option("--output", required=True, metavar="TEXT", help="What came of it; - reads stdin.")
@click.option("--error", is_flag=True, help="It came to nothing: the output says why.")
@json_option
def submit(*, turn_id: str, call_id: str | None, output: str, error: bool, as_json: bool) -> None:
    """Give the output of a call that is answered from outside."""
    with open_client() as client:
        said = typed("output", most=client.settings.max_text_bytes) if output == "-" else output
        turn = turn_of(client, turn_id)
        (wanted,) = _meant(turn, call_id, waits_for=FOR_TOOL, every=False)
        waits = wanted in _waiting(turn, FOR_TOOL)
        if error:
            turn.submit_tool_outputs(errors={wanted: said})
        else:
            turn.submit_tool_outputs({wanted: said})
        told = "submitted: the model is told" if waits else _SAID_BEFORE
        _tell(turn, wanted, told, as_json=as_json)


def _decide(
    act: Callable[[Turn, str, str], str],
    *,
    turn_id: str,
    call_id: str | None,
    every: bool,
    by: str | None,
    as_json: bool,
) -> int:
    """Act on one call, or on all that wait; what one refuses does not keep the others from it.

    The same again is no error: that nothing was done then, is said.
    """
    if every and call_id is not None:
        raise click.UsageError("name a call, or say --all")
    who = os_user() if by is None else by
    with open_client() as client:
        turn = turn_of(client, turn_id)
        meant = _meant(turn, call_id, waits_for=FOR_APPROVAL, every=every)
        waiting = _waiting(turn, FOR_APPROVAL)
        done = 0
        for one in meant:
            try:
                sentence = act(turn, one, who)
            except TurnmillError as error:
                if len(meant) == 1:
                    raise
                say(f"{one}  {error} [{error.code}]")
                continue
            done += 1
            sentence = sentence if one in waiting else _SAID_BEFORE
            _tell(turn, one, sentence, as_json=as_json)
    return code_of(done, wanted=len(meant))


_SAID_BEFORE = "nothing to do: that was said before"


def _waiting(turn: Turn, waits_for: str) -> set[str]:
    return {one.call_id for one in turn.tool_calls() if one.waits_for == waits_for}


def _meant(turn: Turn, typed: str | None, *, waits_for: str, every: bool) -> list[str]:
    """Return the ids of the calls that are meant; raises ToolCallNotFound, or InvalidInput."""
    calls = turn.tool_calls()
    if typed is not None:
        return [_named(calls, typed)]
    waiting = [one.call_id for one in calls if one.waits_for == waits_for]
    if not waiting:
        raise MoveRefused(
            f"no call of the turn waits for {_WORDS[waits_for]}",
            hint=f"turnmill turns show {turn.id}",
        )
    if len(waiting) > 1 and not every:
        raise InvalidInput("several calls of the turn wait", hint="name one: " + ", ".join(waiting))
    return waiting


_WORDS = {FOR_TOOL: "an output", FOR_APPROVAL: "approval"}


def _named(calls: Sequence[ToolCallRecord], typed: str) -> str:
    ids = list(dict.fromkeys(one.call_id for one in calls))
    if typed in ids:
        return typed
    found = [one for one in ids if one.startswith(typed)]
    if len(found) > 1:
        raise InvalidInput(
            f"several calls begin with {typed}", hint="type more of one: " + ", ".join(found[:5])
        )
    if not found:
        raise ToolCallNotFound()
    return found[0]


def _tell(turn: Turn, call_id: str, sentence: str, *, as_json: bool) -> None:
    state = turn.refresh().state
    document = {"turn_id": turn.id, "call_id": call_id, "turn_state": state}
    print_outcome(f"{call_id}  {sentence}", document, as_json=as_json)
