"""`turnmill upkeep`: the jobs of the schedule, listed, and run by hand."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from turnmill.cli.context import json_option, say
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import listing_options
from turnmill.domain.errors import InvalidInput
from turnmill.show.tables import print_json, print_outcome
from turnmill.show.upkeep_view import as_document, print_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from turnmill.settings import Settings
    from turnmill.store.database import Database


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    """Yield the store itself, which has to be of this version."""
    from turnmill.store.database import Database
    from turnmill.store.encryption import keys_for
    from turnmill.store.schema.revision import require_current

    settings.check()
    url, keys = settings.database_url, keys_for(settings)
    opened = Database(url, schema=settings.schema, pool_size=2, keys=keys)
    with closing(opened) as found:
        with found.begin() as conn:
            require_current(conn, schema=found.schema)
        yield found


@click.group("upkeep", cls=CommandGroup)
def command() -> None:
    """List the jobs of the schedule, and run one by hand."""


@command.command("ls")
@listing_options
def ls(*, as_json: bool) -> None:
    """List the jobs: when they ran, what they counted, and when they are due."""
    from turnmill.running_home import settings_of_home
    from turnmill.store.upkeep.jobs import last_runs
    from turnmill_worker.celery.schedule import SCHEDULE, next_runs

    now = datetime.now(UTC)
    due = next_runs(os.environ, now=now)
    with _database(settings_of_home()) as database, database.begin() as conn:
        runs = last_runs(conn)
    rows = [(name, runs.get(one.task), due[one.task]) for name, one in SCHEDULE.items()]
    if as_json:
        for row in rows:
            print_json(as_document(*row))
    else:
        print_jobs(rows, now=now)


@command.command("run")
@click.argument("name")
@json_option
def run(*, name: str, as_json: bool) -> int | None:
    """Do the work of a job now, in this process; NAME as `turnmill upkeep ls` shows it.

    By the environment of this process, but for the tag of figures, which stays. Safe beside a beat,
    and beside itself. What it counts is printed, and stands in job_runs.
    """
    from turnmill_worker.celery.schedule import SCHEDULE

    if name not in SCHEDULE:
        raise InvalidInput(f"no job is named {name}", hint=f"known: {', '.join(SCHEDULE)}")
    counts = asyncio.run(_run(SCHEDULE[name].task))
    if counts is None:
        from turnmill.cli import FAILED

        say("another run has begun later: nothing was done")
        return FAILED
    told = ", ".join(f"{count} {what}" for what, count in counts.items())
    print_outcome(f"{name}: {told}", {"name": name, **counts}, as_json=as_json)
    return None


async def _run(task: str) -> Mapping[str, int] | None:
    from turnmill.actor import actor_of
    from turnmill.domain.analytics.alert_bounds import AlertBounds
    from turnmill.domain.analytics.weekly import Weekly
    from turnmill.domain.auditing import Action
    from turnmill.domain.idle import Retention
    from turnmill.running_home import settings_of_home
    from turnmill.store.nouns.audit import audited
    from turnmill_worker.providers.registry import ProviderRegistry
    from turnmill_worker.upkeep.jobs import Upkeep

    retention = Retention.from_env(os.environ)
    bounds, weekly = AlertBounds.from_env(os.environ), Weekly.from_env(os.environ)
    registry, settings = ProviderRegistry(), settings_of_home()
    with _database(settings) as database:
        figures = {"job": task.rpartition(".")[2]}
        database.run(audited, Action.JOB_RUN, actor=actor_of(settings), figures=figures)
        try:
            jobs = Upkeep(
                database,
                registry.get,
                retention=retention,
                settings=settings,
                bounds=bounds,
                weekly=weekly,
            )
            return await jobs.job(task)(datetime.now(UTC))
        finally:
            await registry.aclose()
