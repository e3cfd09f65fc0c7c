"""`turnmill batch`: many turns from a file, and back into one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from turnmill.cli import FAILED, INTERRUPTED, OK, PARTIAL, STILL_RUNNING
from turnmill.cli.ages import Age
from turnmill.cli.awaited import what_stops_batch
from turnmill.cli.beside import refuse_beside
from turnmill.cli.context import (
    advise,
    confirm,
    json_option,
    nothing_to_do,
    open_client,
    yes_option,
)
from turnmill.cli.groups import CommandGroup
from turnmill.cli.json_settings import object_of
from turnmill.cli.listing import page_options, print_page
from turnmill.cli.short_ids import batch_of
from turnmill.cli.waiting import explaining
from turnmill.domain.dollars import rounded
from turnmill.domain.states import TurnState
from turnmill.show.batch_view import BATCHES, print_batch, print_estimate
from turnmill.show.tables import print_json, print_outcome
from turnmill.show.terminal import on_one_line, say
from turnmill.show.wording import count

if TYPE_CHECKING:
    from datetime import timedelta

    from turnmill.store.batch_records import BatchCounts
    from turnmill.sync.batches import Batch

CANCELLED = TurnState.CANCELLED
#: Of files that are read, and of those that are written.
FORMATS = ("jsonl", "csv", "parquet")

batch_argument = click.argument("batch", metavar="BATCH")


@click.group("batch", cls=CommandGroup)
def command() -> None:
    """Run many turns from a file.

    A line of the file is a JSON object: "text" or "messages", and either "user_id" (a session of
    its own) or "session" (key or id of one that exists); also "custom_id", "provider", "model",
    "system_prompt", "settings" and "metadata". Lines of OpenAI's and Anthropic's own batches are
    taken as they are, and CSV and Parquet. BATCH is a name, an id, or the beginning of an id.
    """


#: What `client.batches.create` is told, and an estimate is not; and `--watch`.
_OF_SUBMITTING = ("name", "mode", "on_leftover", "reuse", "max_cost_usd", "deadline", "watch")


@command.command("submit")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--name", help="What the batch is known by.  [default: file name and content]")
@click.option("--provider", help="For lines that name none.  [default: a vendor's own, or mock]")
@click.option("--model", help="For lines that name none.")
@click.option("--user-id", help="For lines that name neither a user nor a session.")
@click.option("--settings", metavar="JSON", help="Of the sessions that lines make.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="[default: as its name ends]")
@click.option("--column", "columns", multiple=True, metavar="FIELD=COLUMN", help="Of a table.")
@click.option(
    "--mode",
    type=click.Choice(["auto", "flex", "live", "native"]),
    default="auto",
    show_default=True,
    help="Call by call, or in the vendors' batches.",
)
@click.option(
    "--on-leftover",
    type=click.Choice(["live", "next"]),
    default="live",
    show_default=True,
    help="What a vendor's batch has left runs by itself, or in the next one.",
)
@click.option("--reuse", is_flag=True, help="Take answers that equal lines have had, for nothing.")
@click.option("--max-cost-usd", metavar="USD", help="Pause before it costs more.")
@click.option("--deadline", type=Age(), metavar="AGE", help="Expire as long from now: 12h, 2d.")
@click.option("--dry-run", is_flag=True, help="Say what it would take and cost; submit nothing.")
@click.option("--watch", is_flag=True, help="Stay until every turn is final.")
@json_option
def submit(
    *,
    file: str,
    provider: str | None,
    model: str | None,
    user_id: str | None,
    settings: str | None,
    form: str | None,
    columns: tuple[str, ...],
    dry_run: bool,
    watch: bool,
    as_json: bool,
    **how: Any,
) -> int:
    """Submit FILE (- is stdin). After a crash the same command goes on where it stopped."""
    if dry_run:
        refuse_beside("--dry-run", *_OF_SUBMITTING, why="it says what each mode would cost anew")
    said: dict[str, Any] = {
        "provider": provider,
        "model": model,
        "user_id": user_id,
        "settings": object_of(settings),
        "format": form,
        "columns": _columns_of(columns),
    }
    with open_client() as client, _all_problems():
        source = sys.stdin.buffer if file == "-" else file
        if dry_run:
            print_estimate(client.batches.estimate(source, **said), as_json=as_json)
            return OK
        from turnmill.verbs.batch_progress import drawn_lines

        try:
            with drawn_lines(what="submitted") as draw:
                batch = client.batches.create(
                    source,
                    on_accepted=draw,
                    **said,
                    **how,
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
@click.option("--format", "form", type=click.Choice(FORMATS), help="[default: as -o ends]")
@click.option("--shape", type=click.Choice(["openai"]), help="Lines as in files of its batches.")
@click.option("--follow", is_flag=True, help="Add lines as they finish, until the last one has.")
def results(*, batch: str, output: str, form: str | None, shape: str | None, follow: bool) -> int:
    """Write what each line came to, in the order of the file.

    A new file is its owner's only, and there with all its lines or not at all; one that was there
    keeps its mode. Links, devices and FIFOs are written through. A file that is followed is begun
    anew, and grows.
    """
    with open_client() as client:
        found = batch_of(client, batch)
        counts = found.counts  # before the results: what is final then, is final in them
        with explaining(lambda: what_stops_batch(client, found)) if follow else nullcontext():
            if output == "-" and form in (None, FORMATS[0]):
                _print_results(found, shape=shape, follow=follow)
            else:
                path = "/dev/stdout" if output == "-" else output
                done = found.results(path, format=form, shape=shape, follow=follow)
                say(f"{count(done, 'line')} in {on_one_line(output)}")
        if follow:
            counts = found.counts
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
    print_outcome(
        f"{count(moved, 'turn')} run again", {"id": found.id, "retried": moved}, as_json=as_json
    )


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
        confirm(f"Cancel {count(left, 'line')} of batch {found.name}?", yes=yes)
        nothing_to_do(counts.is_done, f"it is {counts.state}")
        moved = found.cancel()
        after = found.counts
    spent = after.cost_usd
    # Lines that were no turns yet have come to nothing, too; what runs may still come to an end.
    gone = max(moved, after.states.get(CANCELLED, 0) - counts.states.get(CANCELLED, 0))
    said = f"{gone} lines cancelled, ${rounded(spent, digits=4):,f} spent; what was finished stays"
    document = {"id": found.id, "cancelled": gone, "cost_usd": spent}
    print_outcome(said, document, as_json=as_json)


@command.command("pause")
@batch_argument
@json_option
def pause(*, batch: str, as_json: bool) -> None:
    """Begin no further turn; what runs comes to its end."""
    with open_client() as client:
        found = batch_of(client, batch)
        nothing_to_do(not found.pause(), "it is paused already")
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
        done = found.resume(max_cost_usd=max_cost_usd, deadline=deadline)
    nothing_to_do(not done, "it is not paused")
    print_outcome("goes on", {"id": found.id, "state": "running"}, as_json=as_json)


@contextmanager
def _all_problems() -> Iterator[None]:
    """Print every line that is wrong before the error that names the first ones."""
    from turnmill.domain.errors import InvalidBatchFile

    try:
        yield
    except InvalidBatchFile as error:
        for line, code, what in error.problems:
            say(f"line {line}: {code}: {what}")
        raise


def _print_results(batch: Batch, *, shape: str | None, follow: bool) -> None:
    from turnmill.verbs.batch_results import chosen_shape

    made = chosen_shape(shape, FORMATS[0])
    for result in batch.iter_results(follow=follow):
        if (line := made(result)) is not None:
            print_json(line)


def _columns_of(columns: tuple[str, ...]) -> dict[str, str] | None:
    pairs = [one.partition("=") for one in columns]
    if not all(field and column for field, _, column in pairs):
        raise click.BadParameter("such as text=prompt", param_hint="--column")
    return {field: column for field, _, column in pairs} or None


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
    if counts.succeeded == counts.accepted + counts.dropped:
        return OK
    return PARTIAL if counts.succeeded else FAILED
