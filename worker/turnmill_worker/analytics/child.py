"""A process that finds topics and ends: `python -m` this module, with `PARENT`.

Counting and comparing some thousand texts takes a core for half a minute: in the worker's own
process turns would wait for it. It is nicer than they are, and prints its figures, as JSON.
"""

import asyncio
import json
import os
import signal
import sys
from contextlib import closing, suppress
from datetime import timedelta

from turnmill.settings import Settings
from turnmill_worker.process.child import die_with_parent

#: A run that takes longer is ended; the next night begins anew.
_LONGEST = timedelta(minutes=45)
_NICE = 19
#: Libraries that count would take every core there is.
_ONE_CORE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class TopicsNotFound(RuntimeError):
    """The process that was to find topics has ended without having done so."""


async def find_apart() -> dict[str, int]:
    """Find topics in a process of its own, and return its figures; raises TopicsNotFound."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # whatever lies in the working directory is not what is meant
        "-m",
        "turnmill_worker.analytics.child",
        str(os.getpid()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **dict.fromkeys(_ONE_CORE, "1")},
    )
    try:
        async with asyncio.timeout(_LONGEST.total_seconds()):
            said, _ = await child.communicate()
    except TimeoutError:
        raise TopicsNotFound("topics were looked for too long") from None
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    if child.returncode != 0:
        raise TopicsNotFound(f"looking for topics ended with code {child.returncode}")
    found: dict[str, int] = json.loads(said)
    return found


def _main(settings: Settings) -> None:
    from turnmill.store.database import Database  # noqa: PLC0415  after `die_with_parent`
    from turnmill.store.encryption import keys_for  # noqa: PLC0415
    from turnmill_worker.analytics.finding import find_topics  # noqa: PLC0415

    keys = keys_for(settings)
    opened = Database(
        settings.database_url, schema=settings.schema, pool_size=1, overflow=1, keys=keys
    )
    with closing(opened) as database:
        sys.stdout.write(json.dumps(find_topics(database)))


if __name__ == "__main__":
    die_with_parent(signal.SIGKILL, parent=int(sys.argv[1]))
    os.nice(_NICE)
    _main(Settings.from_env())
