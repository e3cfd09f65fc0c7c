"""What the demo shows when all turns have ended."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnmill.domain.states import TurnState
from turnmill.show.as_typed import as_typed
from turnmill.show.tables import print_table
from turnmill.show.turn_view import TurnView, look_at, print_attempts
from turnmill.show.turn_view import as_document as turn_document
from turnmill.show.wording import dollars, duration, said, styled, tokens, total_tokens
from turnmill.sync.client import Client
from turnmill_worker.stack.demo import Played
from turnmill_worker.stack.demo_chapters import Chapter
from turnmill_worker.stack.demo_script import Line
from turnmill_worker.stack.throwaway import System

_COLUMNS = ("user", "turn", "state", "attempts", "queued ms", "provider ms", "tokens", "cost")
_NUMBERS = ("turn", "attempts", "queued ms", "provider ms", "tokens", "cost")

Ended = tuple[Line, TurnView]


def look_at_all(client: Client, played: Sequence[Played]) -> list[list[Ended]]:
    """Read what became of every turn, conversation by conversation."""
    return [
        [(line, look_at(client, turn, text=True)) for line, turn in one.turns] for one in played
    ]


def went_as_told(told: Sequence[Sequence[Ended]]) -> bool:
    """Tell whether every turn ended as the script says."""
    return all(view.turn.state is line.ends for one in told for line, view in one)


def as_document(
    system: System, told: Sequence[Sequence[Ended]], chapters: Sequence[Chapter]
) -> dict[str, object]:
    """Return all of it as programs read it."""
    return {
        "flower_url": system.flower_url,
        "tab_url": system.tab_url,
        "pid": system.pid,
        "home": str(system.home),
        "turns": _documents(told),
        "chapters": {one.title.lower(): one.facts for one in chapters},
    }


def _documents(told: Sequence[Sequence[Ended]]) -> list[dict[str, object]]:
    return [
        {"user": view.session.user_id, "accident": line.accident or None, **turn_document(view)}
        for one in told
        for line, view in one
    ]


def print_report(
    console: Console,
    told: Sequence[Sequence[Ended]],
    chapters: Sequence[Chapter],
    *,
    took: timedelta,
) -> None:
    """Print conversations, accidents attempt by attempt, time and money, and then the chapters."""
    for one in told:
        _print_conversation(console, one)
    for one in told:
        for line, view in one:
            if line.accident:
                _print_accident(console, line, view)
    console.print(_heading("What happened"))
    rows = (_row(view) for one in told for _, view in one)
    print_table(_COLUMNS, rows, right=_NUMBERS, console=console)
    console.print()
    console.print(_summary([view for one in told for _, view in one], took=took), markup=False)
    _print_chapters(console, chapters)


def _print_chapters(console: Console, chapters: Sequence[Chapter]) -> None:
    for number, chapter in enumerate(chapters, 1):
        console.print()
        console.print(_heading(f"{number}. {chapter.title}"))
        for fact in chapter.facts:
            console.print(_below("   ", as_typed(fact)))


def print_next_steps(console: Console, system: System, *, kept: bool) -> None:
    """Say where Flower is, and how to send a message of one's own."""
    lines = _while_it_runs(system) if kept else _once_it_has_ended(system)
    console.print()
    for line in lines:
        console.print(as_typed(line), markup=False, soft_wrap=True)  # to be copied as they are


def _while_it_runs(system: System) -> tuple[str, ...]:
    return (
        f"Flower   {system.tab_url}",
        "It goes on running. Send a message of your own:",
        f'    TURNMILL_HOME={system.home} turnmill send "Hello" --wait',
        "Stop it and remove its data:",
        f"    kill {system.pid}; turnmill home remove --home {system.home} --yes",
    )


def _once_it_has_ended(system: System) -> tuple[str, ...]:
    return (
        f"Flower   {system.tab_url}  (until now; --keep leaves it running)",
        "Send a message of your own:",
        "    turnmill up",
        '    turnmill send "Hello" --wait     # in another terminal, here',
    )


def _print_conversation(console: Console, one: Sequence[Ended]) -> None:
    session = one[0][1].session
    console.print(_heading(f"{session.user_id} and {session.model}"))
    for line, view in one:
        console.print(_said("you", line.text))
        if view.reply is not None:
            console.print(_said(session.provider, said(view.reply)))
        else:
            what = f"no reply: {view.turn.state} ({view.turn.error_code})"
            console.print(_said("", what), style="red")
    console.print()


def _print_accident(console: Console, line: Line, view: TurnView) -> None:
    console.print(_heading(f"The turn of {view.session.user_id} that {line.accident}"))
    print_attempts(view, console)
    console.print()


def _said(who: str, text: str) -> Table:
    return _below(f"{who:>9}  ", text)


def _below(beginning: str, text: str) -> Table:
    """Return a text whose further lines stand below its first one, behind what it begins with."""
    grid = Table.grid()
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(beginning, style="dim"), Text(text))
    return grid


def _heading(text: str) -> Text:
    return Text(text, style="bold")


def _row(view: TurnView) -> Iterator[object]:
    turn = view.turn
    yield view.session.user_id
    yield turn.seq
    yield styled(turn.state)
    yield len(view.attempts)
    yield _ms(view.queued)
    yield _ms(view.provider)
    yield tokens(total_tokens(turn.input_tokens, turn.output_tokens))
    yield dollars(turn.cost_usd)


def _ms(span: timedelta | None) -> str:
    return "" if span is None else f"{span.total_seconds() * 1000:,.0f}"


def _summary(views: Sequence[TurnView], *, took: timedelta) -> str:
    states = [view.turn.state for view in views]
    ended = ", ".join(f"{states.count(state)} {state}" for state in TurnState if state in states)
    attempts = sum(len(view.attempts) for view in views)
    costs = [view.turn.cost_usd for view in views if view.turn.cost_usd is not None]
    cost = dollars(sum(costs, Decimal(0))) if costs else "no cost known: the mock has no price"
    return f"{len(views)} turns in {duration(took)}: {ended}; {attempts} attempts; {cost}"
