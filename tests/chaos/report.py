"""The table that a chaos run ends with."""

from collections import Counter

from rich.console import Console
from rich.table import Table

from tests.chaos.chaos import Outcome, p50_and_max, summary


def show(outcome: Outcome, console: Console) -> None:
    """Print what happened, and every promise that was broken."""
    plan = outcome.plan
    table = Table(
        title=f"chaos: {plan.duration.total_seconds() / 60:g} min of {outcome.traffic.title},"
        f" seed {plan.seed}, {plan.workers} workers, {len(outcome.blows)} faults"
    )
    table.add_column("what")
    table.add_column("count", justify="right")
    table.add_column("seconds to recover (p50 / max)", justify="right")
    for name, number in summary(outcome).items():
        table.add_row(name, str(number), "")
    table.add_section()
    for kind, number in sorted(Counter(blow.kind for blow in outcome.blows).items()):
        table.add_row(kind, str(number), p50_and_max(outcome.recoveries.get(kind, [])))
    table.add_section()
    for kind, number in sorted((+outcome.traffic.done).items()):
        table.add_row(kind, str(number), "")
    table.add_section()
    for name, number in _broken(outcome).items():
        table.add_row(name, str(number), "")
    console.print(table)
    console.print(f"slowest send: {outcome.traffic.slowest_send:.2f} s")
    for complaint in outcome.complaints():
        console.print(f"BROKEN {complaint}", style="red", markup=False)


def _broken(outcome: Outcome) -> dict[str, int]:
    of_clients = outcome.traffic.counted(outcome.books)
    return {
        "lost": len(outcome.lost),
        "wrong answers to clients": len(outcome.traffic.complaints),
        **of_clients,
        "statements that were refused": outcome.unsound,
        "invariant violations": len(outcome.books.violations),
    }
