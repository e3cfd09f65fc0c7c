"""`python -m turnmill_worker worker|beat`: Celery's own commands, and nothing beside.

`celery` itself loads the plugins of its command line first, Flower with all its own among them: 24
MB in a worker that never uses them. `celery -A turnmill_worker.app worker` does the same work.
"""

import sys

import click
from celery.app.utils import find_app
from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.worker import worker

from turnmill.domain.errors import TurnmillError
from turnmill_worker.celery.lossy import lose_what_cannot_be_written


@click.group()
@click.option("-A", "--app", default="turnmill_worker.app", help="The Celery app.")
@click.pass_context
def main(ctx: click.Context, app: str) -> None:
    """Run one of Celery's programs for Turnmill."""
    lose_what_cannot_be_written()
    try:
        found = find_app(app)
    except TurnmillError as error:
        raise SystemExit(f"turnmill: {error}\n  hint: {error.hint}") from None
    ctx.obj = CLIContext(app=found, no_color=None, workdir=None, quiet=False)


main.add_command(worker)
main.add_command(beat)

if __name__ == "__main__":
    arguments = sys.argv[1:]
    # By these words Celery begins a worker anew that gets HUP. By its file, as it stood there, it
    # would find our folder of this name where Celery is meant.
    sys.argv[:] = ["-P", "-m", "turnmill_worker", *arguments]
    main(arguments, prog_name="python -m turnmill_worker")
