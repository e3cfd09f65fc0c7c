"""`turnmill demo`: the whole system at work, on a home that is thrown away."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from functools import partial
from typing import Self

import click

from turnmill.cli import FAILED, OK
from turnmill.cli.celery_program import RUNS_TURNS, require_worker_half
from turnmill.cli.context import json_option, say
from turnmill.domain.errors import KeyMissing
from turnmill.show.tables import print_json, stdout_console
from turnmill.show.terminal import STREAMS_STAY, console


@click.command("demo")
@click.option(
    "--provider",
    default="mock",
    show_default=True,
    help="openai or anthropic, with its key set: the real one, for less than a cent.",
)
@click.option("--model", help="Of that provider.  [default: a small one]")
@click.option("--keep", is_flag=True, help="Leave the system running.")
@json_option
def command(*, provider: str, model: str | None, keep: bool, as_json: bool) -> int:
    """Start everything, let five users talk through the real queue, and show what happened.

    One turn fails twice and succeeds; one ends dead. Both accidents are staged with the mock
    provider, which asks nobody. Then each capability has a chapter: sessions, messages, storage,
    providers, lifecycle, middleware, streams, tools, money, batches, figures, privacy, Flower.
    Nothing is left behind, unless --keep says so.
    """
    require_worker_half("greenlet", "flower", *RUNS_TURNS)
    from turnmill_worker.stack.throwaway import throw_away

    _require_key(provider)
    voice = _Voice()
    with voice, throw_away(keep=keep, say=voice.say) as started:
        # Imported while it starts.
        from turnmill.sync.client import Client
        from turnmill_worker.stack import demo, demo_chapters, demo_report

        system = started.ready(voice.say)
        with Client(database_url=system.database_url, broker_url=system.broker_url) as client:
            began = time.monotonic()
            played = demo.play(client, provider=provider, model=model)
            total = sum(len(one.turns) for one in played)
            demo.wait_for(client, total=total, draw=partial(voice.draw, total))
            took = timedelta(seconds=time.monotonic() - began)
            told = demo_report.look_at_all(client, played)
            voice.say("the chapters")
            chapters = list(demo_chapters.tell_all(client, system))
        voice.end()
        if as_json:
            print_json({"kept": keep, **demo_report.as_document(system, told, chapters)})
        else:
            stdout = stdout_console()
            demo_report.print_report(stdout, told, chapters, took=took)
            demo_report.print_next_steps(stdout, system, kept=keep)
    return OK if demo_report.went_as_told(told) else FAILED


def _require_key(provider: str) -> None:
    from turnmill_worker.providers.registry import ProviderRegistry

    if variable := ProviderRegistry().missing_key(provider):
        raise KeyMissing(
            f"{variable} is not set",
            hint=f"set {variable}, or leave --provider out: the mock needs no key",
        )


class _Voice:
    """What is going on, on stderr: a live line in a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._live = sys.stderr.isatty()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[what]}", style="dim", markup=False),
            TimeElapsedColumn(),
            console=console(stderr=True),
            transient=True,
            disable=not self._live,
            **STREAMS_STAY,
        )
        self._task = self._bar.add_task("starting", total=None, what="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def say(self, line: str) -> None:
        """Tell what is being done."""
        if self._live:
            self._bar.update(self._task, description=line)
        else:
            say(line)

    def draw(self, total: int, done: int, what: str) -> None:
        """Draw how many turns are final."""
        line = f"{done} of {total} turns ended"
        self._bar.update(self._task, description=line, total=total, completed=done, what=what)

    def end(self) -> None:
        """Let the live line disappear; from now on lines are plain."""
        self._live = False
        self._bar.stop()
