"""`turnmill worker`: Celery's worker on the asyncio pool."""

from __future__ import annotations

import click

from turnmill.cli.celery_program import (
    PASSES_ON,
    RUNS_TURNS,
    become,
    passed_on,
    require_worker_half,
    settings_of_servers,
)


@click.command("worker", context_settings=PASSES_ON)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    help="Turns held at once.  [default: TURNMILL_CONCURRENCY, or 1000]",
)
@click.option(
    "-E",
    "--events/--no-events",
    default=False,
    show_default=True,
    help="Tell Flower of each task; costs CPU.",
)
@click.pass_context
def command(ctx: click.Context, *, concurrency: int | None, events: bool) -> None:
    """Run turns, as many at once as --concurrency says, in one process.

    Further options go to `celery worker`: -n NAME, -Q QUEUES, -l DEBUG, --pool threads, …
    Turns run on the asyncio pool, on threads and on solo; other pools are refused.
    """
    require_worker_half("greenlet", *RUNS_TURNS)
    settings = settings_of_servers()
    # Gossip and mingle find other workers; nobody needs them, and they cost a second.
    ours = ["--loglevel=INFO", "--without-gossip", "--without-mingle"]
    ours.append(f"--concurrency={concurrency or settings.concurrency}")
    if events:
        ours.append("--events")
    become("worker", passed_on(ctx, *ours), settings=settings, environ={})
