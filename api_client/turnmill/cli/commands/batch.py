"""`turnmill batch`: many turns from a file, and back into one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnmill.cli import FAILED, INTERRUPTED, OK, PARTIAL, STILL_RUNNING
from turnmill.cli.ages import Age
from turnmill.cli.context import advise, confirm, json_option, open_client, yes_option
from turnmill.cli.listing import page_options, print_page
from turnmill.cli.short_ids import batch_of
from turnmill.show.batch_view import BATCHES, print_batch
from turnmill.show.tables import print_json, print_outcome
from turnmill.show.terminal import on_one_line, say

if TYPE_CHECKING:
    from datetime import timedelta

    from turnmill.store.nouns.batches import BatchCounts
    from turnmill.sync.batches import Batch

batch_argument = click.argument("batch", metavar="BATCH")


@click.group("batch")
def command() -> None:
    """Run many turns from a file.

    A line of the file is a JSON object: "text", and either "user_id" (a session of its own) or
    "session" (key or id of one that exists); also "custom_id", "provider", "model",
    "system_prompt" and "metadata". BATCH is a name, an id, or the beginning of an id.
    """


@command.command("submit")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="What the batch is known by.  [default: file name and content]")
@click.option("--provider", default="mock", show_default=True, help="For lines that name none.")
@click.option("--model", help="For lines that name none.")
@click.option("--mode", type=click.Choice(["auto", "live"]), default="auto", show_default=True)
@click.option("--watch", is_flag=True, help="Stay until every turn is final.")
@json_option
def submit(
    *,
    file: Path,
    name: str | None,
    provider: str,
    model: str | None,
    mode: str,
    watch: bool,
    as_json: bool,
) -> int:
    """Submit FILE. After a crash the same command goes on where it stopped."""
    from turnmill.verbs.batch_progress import drawn_lines

    with open_client() as client:
        try:
            with drawn_lines(what="submitted") as draw:
                batch = client.batches.create(
                    file, mode=mode, name=name, provider=provider, model=model, on_accepted=draw
                )
        except KeyboardInterrupt:
            say("what was submitted stays; the same command goes on where this one stopped")
            return INTERRUPTED
        if watch:
            return _watch(batch, timeout=None, as_json=as_json)
        counts = batch.counts
        print_batch(batch, counts, as_json=as_json)
        return OK


@command.command("ls")
@page_options("batch")
def ls(*, limit: int, after: str | None, as_json: bool) -> None:
    """List batches, newest first."""
    with open_client() as client:
        print_page(
            client.batches.list,
            BATCHES,
            find=partial(batch_of, client),
            after=after,
            limit=limit,
            as_json=as_json,
            nothing="no batches; `turnmill batch submit FILE` makes one",
        )


@command.command("status")
@batch_argument
@json_option
def status(*, batch: str, as_json: bool) -> int:
    """Show how many turns are in which state."""
    with open_client() as client:
        found = batch_of(client, batch)
        counts = found.counts
    print_batch(found, counts, as_json=as_json)
    return _code(counts)


@command.command("watch")
@batch_argument
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds.  [default: without end]")
@json_option
def watch(*, batch: str, timeout: float | None, as_json: bool) -> int:
    """Draw the progress until every turn is final."""
    with open_client() as client:
        return _watch(batch_of(client, batch), timeout=timeout, as_json=as_json)


@command.command("results")
@batch_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True),
    default="-",
    help="Where to write.  [default: -, which is stdout]",
)
def results(*, batch: str, output: str) -> int:
    """Write one JSON object a line, in the order of the file.

    A new file is its owner's only, and there with all its lines or not at all; one that was there
    keeps its mode. Links, devices and FIFOs are written through.
    """
    from turnmill.verbs.batch_results import as_line

    with open_client() as client:
        found = batch_of(client, batch)
        counts = found.counts  # before the results: what is final then, is final in them
        if output == "-":
            for result in found.iter_results():
                print_json(as_line(result))
        else:
            say(f"{found.results(output)} lines in {on_one_line(output)}")
    if not counts.is_done:
        advise(f"turns are unfinished: `turnmill batch watch {found.id}`")
    return _code(counts)


@command.command("retry-failed")
@batch_argument
@json_option
def retry_failed(*, batch: str, as_json: bool) -> None:
    """Run failed and dead turns again."""
    with open_client() as client:
        found = batch_of(client, batch)
        moved = found.retry_failed()
    print_outcome(f"{moved} turns run again", {"id": found.id, "retried": moved}, as_json=as_json)


@command.command("cancel")
@batch_argument
@yes_option
@json_option
def cancel(*, batch: str, yes: bool, as_json: bool) -> None:
    """Make no further turn of it, and end what is not final; what was finished stays."""
    with open_client() as client:
        found = batch_of(client, batch)
        counts = found.counts
        left = counts.accepted - counts.finished
        confirm(f"Cancel {left} turns of batch {found.name}?", yes=yes)
        moved = found.cancel()
        spent = found.counts.cost_usd
    said = f"{moved} turns cancelled, ${spent:,.4f} spent; what was finished stays"
    document = {"id": found.id, "cancelled": moved, "cost_usd": spent}
    print_outcome(said, document, as_json=as_json)


@command.command("pause")
@batch_argument
@json_option
def pause(*, batch: str, as_json: bool) -> None:
    """Begin no further turn; what runs comes to its end."""
    with open_client() as client:
        found = batch_of(client, batch)
        found.pause()
    print_outcome("paused", {"id": found.id, "state": "paused"}, as_json=as_json)


@command.command("resume")
@batch_argument
@click.option("--max-cost-usd", metavar="USD", help="What it may cost at the most, in all.")
@click.option("--deadline", type=Age(), metavar="AGE", help="As long from now: 12h, 2d.")
@json_option
def resume(
    *, batch: str, max_cost_usd: str | None, deadline: timedelta | None, as_json: bool
) -> None:
    """Go on, whatever had stopped it."""
    with open_client() as client:
        found = batch_of(client, batch)
        found.resume(max_cost_usd=max_cost_usd, deadline=deadline)
    print_outcome("goes on", {"id": found.id, "state": "running"}, as_json=as_json)


def _watch(batch: Batch, *, timeout: float | None, as_json: bool) -> int:
    """Stay until it has ended, or has stopped itself; how far it is, is said on stderr."""
    try:
        counts = batch.wait(progress=True, timeout=timeout)
    except KeyboardInterrupt:
        say(f"batch {on_one_line(batch.name)} goes on without you")
        advise(f"next: turnmill batch watch {batch.id}")
        return INTERRUPTED
    print_batch(batch, counts, as_json=as_json)
    return _code(counts)


def _code(counts: BatchCounts) -> int:
    if not counts.is_done:
        return STILL_RUNNING
    if counts.succeeded == counts.accepted:
        return OK
    return PARTIAL if counts.succeeded else FAILED
