"""`turnmill turns`: what happened to turns, and what is to happen to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from turnmill.cli import PARTIAL
from turnmill.cli.ages import Age
from turnmill.cli.awaited import what_holds
from turnmill.cli.beside import is_typed
from turnmill.cli.context import code_of, confirm, json_option, open_client, say, yes_option
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import page_options, print_page
from turnmill.cli.short_ids import batch_of, session_of, turn_of
from turnmill.cli.waiting import counting, explaining
from turnmill.domain.arguments import from_now
from turnmill.domain.errors import MoveRefused, TurnmillError
from turnmill.domain.states import FINAL, Lane, TurnState
from turnmill.show.feedback_view import print_given
from turnmill.show.tables import print_outcome
from turnmill.show.turn_listing import TURNS, read_page
from turnmill.show.turn_view import look_at, print_turn
from turnmill.show.why_view import print_why
from turnmill.show.wording import count

if TYPE_CHECKING:
    from turnmill.sync.client import Client
    from turnmill.sync.turns import Turn

_STATES = [state.value for state in TurnState]
_FAILED_STATES = [TurnState.DEAD.value, TurnState.FAILED.value]
_OPEN_STATES = [state.value for state in TurnState if state not in FINAL]
_PAGE = 500
_MOST = 100_000  #: that one command retries or cancels

_FILTERS = (
    click.option("--session", metavar="KEY|ID", help="Of this session only."),
    click.option("--user", metavar="USER", help="Of this user only."),
    click.option("--batch", metavar="NAME|ID", help="Of this batch only."),
    click.option("--lane", type=click.Choice([lane.value for lane in Lane])),
    click.option("--error-code", metavar="CODE", help="That ended with this code."),
    click.option("--older", type=Age(), help="Accepted longer ago than this: 90s, 15min, 2h, 3d."),
)


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which turns are meant."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def states_option(
    among: Sequence[str], *, told: str = "Repeatable.", metavar: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add --state."""
    return click.option(
        "--state", "states", multiple=True, type=click.Choice(among), metavar=metavar, help=told
    )


limit_option = click.option(
    "--limit", type=click.IntRange(1, _MOST), default=10_000, show_default=True
)
all_option = click.option(
    "--all", "every", is_flag=True, help="All that the filters below let through."
)


@click.group("turns", cls=CommandGroup)
def command() -> None:
    """List, show, retry and cancel turns. TURN is an id, or as much of it as a listing shows."""


@command.command("ls")
@states_option(
    _STATES,
    told="Such as dead. Repeatable; a word that is none lists them all.",
    metavar="STATE",
)
@filters
@page_options("turn")
def ls(
    *, states: tuple[str, ...], limit: int, after: str | None, as_json: bool, **given: Any
) -> None:
    """List turns, newest first, and what each waits for."""
    with open_client() as client:
        print_page(
            partial(read_page, client, states=states, **_wanted(client, **given)),
            TURNS,
            find=partial(turn_of, client),
            after=after,
            limit=limit,
            as_json=as_json,
            nothing="no such turns",
        )


@command.command("show")
@click.argument("turn_id", metavar="TURN")
@click.option("--text", is_flag=True, help="With what was said, and the provider's own words.")
@json_option
def show(*, turn_id: str, text: bool, as_json: bool) -> None:
    """Tell what happened to a turn, attempt by attempt."""
    with open_client() as client:
        view = look_at(client, turn_of(client, turn_id), text=text)
    print_turn(view, as_json=as_json)


@command.command("why")
@click.argument("turn_id", metavar="TURN")
@json_option
def why(*, turn_id: str, as_json: bool) -> None:
    """Say in a line what a turn waits for, and until when."""
    with open_client() as client:
        found = turn_of(client, turn_id).why()
    print_why(found, as_json=as_json)


@command.command("retry")
@click.argument("turn_ids", metavar="[TURN...]", nargs=-1)
@all_option
@states_option(_FAILED_STATES, told="With --all; repeatable.  [default: dead]")
@filters
@limit_option
@json_option
def retry(*, states: tuple[str, ...], every: bool, **given: Any) -> int:
    """Run failed or dead turns again, oldest first.

    In place while no later turn of the session has started, otherwise as a new turn at its end.
    The old one stays as it is then, and --all leaves it alone from then on.
    """
    # Somebody else may be retrying all that stand, too: what both have found runs again once.
    act = partial(_retry, once=every)
    return _move(act, every=every, states=states or ("dead",), run_again=False, **given)


@command.command("cancel")
@click.argument("turn_ids", metavar="[TURN...]", nargs=-1)
@click.option("--wait", is_flag=True, help="Stay until they have ended.")
@click.option(
    "--keep-partial", is_flag=True, help="Keep what has come of streamed replies, marked so."
)
@all_option
@states_option(_OPEN_STATES, told="With --all; repeatable.  [default: all that are not final]")
@filters
@limit_option
@yes_option
@json_option
def cancel(*, wait: bool, keep_partial: bool, states: tuple[str, ...], **given: Any) -> int:
    """End turns without a reply; a running one as soon as its worker has closed the call."""
    act = partial(_cancel, wait=wait, keep_partial=keep_partial)
    return _move(act, asking="Cancel", states=states or _OPEN_STATES, **given)


@command.command("release")
@click.argument("turn_ids", metavar="TURN...", nargs=-1, required=True)
@json_option
def release(*, turn_ids: tuple[str, ...], as_json: bool) -> int:
    """Let turns go on that are held because their request may have been executed."""
    with open_client() as client:
        return _each(client, turn_ids, _release, as_json=as_json)


@command.command("feedback")
@click.argument("turn_id", metavar="TURN")
@click.option("--score", type=click.FloatRange(-1, 1), help="From -1, bad, to 1, good.")
@click.option("--comment", help="In words; they are kept as messages are.")
@click.option("--by", metavar="NAME", help="Whose word it is, where it is not the session's user.")
@click.option("--take-back", is_flag=True, help="Let nothing have been said.")
@json_option
def feedback(
    *,
    turn_id: str,
    score: float | None,
    comment: str | None,
    by: str | None,
    take_back: bool,
    as_json: bool,
) -> None:
    """Keep what somebody thinks of how a turn ended, in place of what he has said before."""
    if (score is None) != take_back:
        raise click.UsageError("say --score, or --take-back")
    with open_client() as client:
        found = client.turns.feedback(turn_of(client, turn_id).id, score, comment, by=by)
    print_given(found, as_json=as_json)


def _move(
    act: Callable[[Turn], tuple[str, dict[str, Any]]],
    *,
    asking: str = "",
    turn_ids: tuple[str, ...],
    every: bool,
    states: Sequence[str],
    limit: int,
    run_again: bool | None = None,
    yes: bool = False,
    as_json: bool,
    **given: Any,
) -> int:
    """Act on the turns that are named, or on all that the filters let through, as they stand."""
    if bool(turn_ids) == every:
        raise click.UsageError("name turns by their ids, or say --all")
    if turn_ids and (any(given.values()) or is_typed("states") or is_typed("limit")):
        raise click.UsageError("filters and --limit go with --all")
    with open_client() as client:
        if not every:
            return _each(client, turn_ids, act, as_json=as_json)
        wanted = _wanted(client, **given) | {"run_again": run_again}
        found = _collect(client, most=limit, states=states, **wanted)
        if found and asking:
            confirm(f"{asking} {count(len(found), 'turn')}?", yes=yes)
        code = _each(client, found, act, as_json=as_json)
    if len(found) < limit:
        say(f"found: {count(len(found), 'turn')}")
        return code
    say(f"found: {count(limit, 'turn')}, maybe more: run it again")
    return code or PARTIAL


def _wanted(
    client: Client,
    *,
    session: str | None,
    batch: str | None,
    user: str | None,
    older: timedelta | None,
    **others: Any,
) -> dict[str, Any]:
    """Return the filters as the client takes them."""
    return {
        **others,
        "session": None if session is None else session_of(client, session),
        "batch": None if batch is None else batch_of(client, batch),
        "user_id": user,
        "created_before": None if older is None else from_now(-older, name="older"),
    }


def _collect(client: Client, *, most: int, **wanted: Any) -> list[Turn]:
    """Return up to `most` turns, the oldest first: so a session keeps its order."""
    found: list[Turn] = []
    after = None
    while len(found) < most:
        page = client.turns.list(after=after, limit=min(_PAGE, most - len(found)), **wanted)
        if not page:
            break
        after = page[-1].id
        found += page
    return found[::-1]


def _each(
    client: Client,
    wanted: Sequence[str | Turn],
    act: Callable[[Turn], tuple[str, dict[str, Any]]],
    *,
    as_json: bool,
) -> int:
    """Act on one turn after the other; what one refuses does not keep the others from it."""
    done = 0
    with counting("turns", total=len(wanted)) as draw:
        for number, one in enumerate(wanted):
            draw(number)
            try:
                turn = turn_of(client, one) if isinstance(one, str) else one
                sentence, document = act(turn)
            except TurnmillError as error:
                if len(wanted) == 1:
                    raise
                say(f"{one if isinstance(one, str) else one.id}  {error} [{error.code}]")
                continue
            done += 1
            print_outcome(f"{turn.id}  {sentence}", {"id": turn.id, **document}, as_json=as_json)
    return code_of(done, wanted=len(wanted))


def _retry(turn: Turn, *, once: bool) -> tuple[str, dict[str, Any]]:
    again = turn.retry(once=once)
    document = {"turn_id": again.id, "in_place": again.id == turn.id}
    if again.id == turn.id:
        return "runs again", document
    return f"runs again as {again.id}, at the end of its session", document


def _cancel(turn: Turn, *, wait: bool, keep_partial: bool) -> tuple[str, dict[str, Any]]:
    with explaining(partial(what_holds, turn)) if wait else nullcontext():
        state = turn.cancel(wait=wait, keep_partial=keep_partial)
    if state is TurnState.CANCELLED:
        return "cancelled", {"state": state}
    if state in FINAL:
        raise MoveRefused(
            f"a turn that is {state} cannot be cancelled",
            hint="`turnmill turns show ID` has its end",
        )
    return f"{state}: its worker closes the call", {"state": state}


def _release(turn: Turn) -> tuple[str, dict[str, Any]]:
    turn.release()
    return "goes on", {"state": turn.refresh().state}
