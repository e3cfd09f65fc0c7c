"""`turnmill turns`: what happened to turns, and what is to happen to them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from turnmill.cli import PARTIAL
from turnmill.cli.context import code_of, json_option, open_client, say
from turnmill.cli.listing import page_options, print_page
from turnmill.domain.errors import MoveRefused, TurnmillError
from turnmill.domain.states import FINAL, TurnState
from turnmill.show.tables import print_outcome
from turnmill.show.turn_listing import TURNS
from turnmill.show.turn_view import look_at, print_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turnmill.sync.client import Client
    from turnmill.sync.turns import Turn

_STATES = [state.value for state in TurnState]
_FAILED_STATES = [TurnState.DEAD.value, TurnState.FAILED.value]
_PAGE = 500

turn_ids = click.argument("turn_ids", metavar="TURN...", nargs=-1, required=True)
session_option = click.option("--session", metavar="KEY|ID", help="Of this session only.")
error_option = click.option("--error-code", metavar="CODE", help="That ended with this code.")


@click.group("turns")
def command() -> None:
    """List, show, retry and cancel turns. TURN is an id."""


@command.command("ls")
@click.option("--state", "states", multiple=True, type=click.Choice(_STATES), help="Repeatable.")
@session_option
@error_option
@page_options("turn")
def ls(
    *,
    states: tuple[str, ...],
    session: str | None,
    error_code: str | None,
    limit: int,
    after: str | None,
    as_json: bool,
) -> None:
    """List turns, newest first."""
    with open_client() as client:
        print_page(
            partial(client.turns.list, session=session, states=states, error_code=error_code),
            TURNS,
            find=client.turns.get,
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
        view = look_at(client, client.turns.get(turn_id), text=text)
    print_turn(view, as_json=as_json)


@command.command("retry")
@click.argument("turn_ids", metavar="[TURN...]", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All that the filters below let through.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(_FAILED_STATES),
    help="With --all; repeatable.  [default: dead]",
)
@error_option
@session_option
@click.option("--limit", type=click.IntRange(1, 100_000), default=10_000, show_default=True)
@json_option
def retry(
    *,
    turn_ids: tuple[str, ...],
    every: bool,
    states: tuple[str, ...],
    error_code: str | None,
    session: str | None,
    limit: int,
    as_json: bool,
) -> int:
    """Run failed or dead turns again, oldest first.

    In place while no later turn of the session has started, otherwise as a new turn at its end.
    """
    if bool(turn_ids) == every:
        raise click.UsageError("name turns by their ids, or say --all")
    with open_client() as client:
        if not every:
            return _each(client, turn_ids, _retry, as_json=as_json)
        filters = {"states": states or ("dead",), "error_code": error_code, "session": session}
        found = _collect(client, most=limit, **filters)
        code = _each(client, found, _retry, as_json=as_json)
        if len(found) < limit:
            say(f"{len(found)} turns were found")
            return code
    say(f"{limit} turns were found, maybe more: run it again")
    return code or PARTIAL


@command.command("cancel")
@turn_ids
@json_option
def cancel(*, turn_ids: tuple[str, ...], as_json: bool) -> int:
    """End turns without a reply; a running one as soon as its worker has closed the call."""
    with open_client() as client:
        return _each(client, turn_ids, _cancel, as_json=as_json)


@command.command("release")
@turn_ids
@json_option
def release(*, turn_ids: tuple[str, ...], as_json: bool) -> int:
    """Let turns go on that are held because their request may have been executed."""
    with open_client() as client:
        return _each(client, turn_ids, _release, as_json=as_json)


def _collect(client: Client, *, most: int, **filters: Any) -> list[str]:
    """Return the ids of up to `most` turns, the oldest first: so a session keeps its order."""
    found: list[str] = []
    after = None
    while len(found) < most:
        page = client.turns.list(after=after, limit=min(_PAGE, most - len(found)), **filters)
        if not page:
            break
        after = page[-1].id
        found += [str(turn.id) for turn in page]
    return found[::-1]


def _each(
    client: Client,
    turn_ids: Sequence[str],
    act: Callable[[Turn], tuple[str, dict[str, Any]]],
    *,
    as_json: bool,
) -> int:
    """Act on one turn after the other; what one refuses does not keep the others from it."""
    done = 0
    for turn_id in turn_ids:
        try:
            sentence, document = act(client.turns.get(turn_id))
        except TurnmillError as error:
            if len(turn_ids) == 1:
                raise
            say(f"{turn_id}  {error} [{error.code}]")
            continue
        done += 1
        print_outcome(f"{turn_id}  {sentence}", {"id": turn_id, **document}, as_json=as_json)
    return code_of(done, wanted=len(turn_ids))


def _retry(turn: Turn) -> tuple[str, dict[str, Any]]:
    again = turn.retry()
    document = {"turn_id": again.id, "in_place": again.id == turn.id}
    if again.id == turn.id:
        return "runs again", document
    return f"runs again as {again.id}, at the end of its session", document


def _cancel(turn: Turn) -> tuple[str, dict[str, Any]]:
    state = turn.cancel()
    if state is TurnState.CANCELLED:
        return "cancelled", {"state": state}
    if state in FINAL:
        raise MoveRefused(f"a turn that is {state} cannot be cancelled")
    return f"{state}: its worker closes the call", {"state": state}


def _release(turn: Turn) -> tuple[str, dict[str, Any]]:
    turn.release()
    return "goes on", {"state": turn.refresh().state}
