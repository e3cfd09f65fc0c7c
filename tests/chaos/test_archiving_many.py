"""Idle sessions by the hundred thousand are archived beside turns, each once, whoever is killed."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from threading import Event, Thread

import psycopg
import pytest

from tests.chaos.system import ROOT, System, until
from turnmill import Client

logger = logging.getLogger(__name__)

IDLE = int(os.environ.get("TURNMILL_TEST_IDLE", "200000"))
KILLS = 5
#: Turns are slower by so much at the most while sessions are archived.
MOST = 1.2
#: Turns of one session: each brings the whole history along, so that the last of a thousand would
#: be slower than the first whatever else goes on.
TURNS = 20
#: The job rests three times as long as it works.
_A_SHARE = timedelta(minutes=3)

_MAKE = """
INSERT INTO turnmill.sessions (id, user_id, provider, model, created_at, last_active_at)
SELECT gen_random_uuid(), 'idle', 'mock', 'mock', now() - interval '60 days',
    now() - interval '40 days'
FROM generate_series(1, %s) RETURNING 1
"""
_LEFT = "SELECT count(*) FROM turnmill.sessions WHERE user_id = 'idle' AND status = 'active'"
#: Somebody else's eye on it: each time that a session is archived is a row.
_WATCH = """
CREATE TABLE public.archived (id uuid NOT NULL, n bigserial);
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.archived (id) VALUES (NEW.id); RETURN NULL; END';
CREATE TRIGGER note AFTER UPDATE OF status ON turnmill.sessions FOR EACH ROW
    WHEN (NEW.status = 'archived' AND OLD.status <> 'archived') EXECUTE FUNCTION public.note();
"""
_ARCHIVED = "SELECT count(*), count(DISTINCT id) FROM public.archived"
#: How many about, whatever their number: who counts rows again and again takes a core from turns.
_ABOUT = "SELECT last_value FROM public.archived_n_seq"


def archiving(system: System) -> subprocess.Popen[bytes]:
    """Begin the job, as a worker that got it from a beat would do."""
    command = [sys.executable, "-m", "turnmill.cli", "upkeep", "run", "archive-idle-sessions"]
    return subprocess.Popen(command, env=system.variables, cwd=ROOT, stdout=subprocess.DEVNULL)


def times_of_turns(client: Client, enough: Event, *, least: int) -> list[float]:
    """Send turns one after the other, until it is enough, and return how long each took."""
    took: list[float] = []
    while not enough.is_set() or len(took) < least:
        if len(took) % TURNS == 0:
            session = client.sessions.create(user_id="ada")
        began = time.monotonic()
        client.send(session, "hello").result(timeout=30)
        took.append(time.monotonic() - began)
    return took


def p95(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_idle_sessions_are_archived_once_beside_turns_and_through_kills(system: System) -> None:
    system.start_worker()
    with psycopg.connect(system.database_url, autocommit=True) as connection:
        connection.execute(_WATCH)
    system.rows(_MAKE, IDLE)
    with system.client() as client:
        at_once = Event()
        at_once.set()
        alone = times_of_turns(client, at_once, least=300)
        done, beside = Event(), list[float]()
        measuring = Thread(target=lambda: beside.extend(times_of_turns(client, done, least=300)))
        measuring.start()
        try:
            for number in range(1, KILLS + 1):
                job = archiving(system)
                until(lambda n=number: _about(system) > _goal(n), within=_A_SHARE)  # type: ignore[misc]
                job.send_signal(signal.SIGKILL)
                job.wait()
            while _left(system):
                assert archiving(system).wait(timeout=600) == 0
        finally:
            done.set()
            measuring.join()
    logger.info("p95 alone %.1f ms, beside %.1f ms", p95(alone) * 1e3, p95(beside) * 1e3)
    assert system.rows(_ARCHIVED) == [(IDLE, IDLE)]
    assert p95(beside) <= p95(alone) * MOST


def _goal(kill: int) -> int:
    """Return how many are archived where the job is killed."""
    return kill * IDLE // (KILLS + 1) // 2


def _about(system: System) -> int:
    return int(system.rows(_ABOUT)[0][0])


def _left(system: System) -> int:
    return int(system.rows(_LEFT)[0][0])
