"""What encryption costs a turn: python -m benchmarks.encryption_cost [--rounds 5] [--settings].

One version, two sides in turns, in one run: sessions of twenty messages that stand plain, and the
same ones encrypted. Servers of its own; CPU of worker, Postgres and Redis together, from claim to
reply. The sessions are of a hundred users, whose data keys stand in a folder. With --settings, all
of them have a kilobyte of settings, which on a third side are encrypted, too.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median

import psycopg

from benchmarks.__main__ import conditions, tell
from benchmarks.ground import Ground, ground
from benchmarks.systems import SYSTEMS, Point
from benchmarks.throughput import Windows, measure
from turnmill.crypto.keyring import new_key, write_keyring
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.encryption import keys_for
from turnmill.store.upkeep.resealing import reseal

_SESSIONS = 2000
_WINDOWS = Windows(count=2, seconds=2.0, settling=1.5)
_LOAD = Point(in_flight=800, latency=timedelta(milliseconds=200))
#: CPU milliseconds a turn that encryption may cost.
MOST = 0.1
_SIDES = ("plain", "encrypted")
_SETTINGS = "settings"
#: What sessions have where settings are looked at: words for a vendor, about a kilobyte of them.
_SAID = {"max_output_tokens": 400, "metadata": {f"key_{n}": "x" * 50 for n in range(16)}}
_CHUNK = 2000
_PLAIN = "SELECT count(*) FROM turnmill.messages WHERE jsonb_typeof(content) <> 'string'"
_SEALED = "SELECT count(*) FROM turnmill.sessions WHERE settings ? 'tm1'"

Round = dict[str, dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=_SESSIONS)
    parser.add_argument("--settings", action="store_true", help="encrypted settings, too")
    given = parser.parse_args()
    sides = (*_SIDES, _SETTINGS) if given.settings else _SIDES
    rounds: list[Round] = []
    with ground() as here:
        keys = keys_in(here.folder)
        chosen = {**keys, "TURNMILL_ENCRYPT_SETTINGS": "on"}
        envs = {"plain": {}, "encrypted": keys, _SETTINGS: chosen}
        said = _SAID if given.settings else {}
        templates = {side: template(here, envs[side], given.sessions, said) for side in sides}
        for number in range(given.rounds):
            order = sides if number % 2 else sides[::-1]
            rounds.append({side: cost(here, templates[side], envs[side]) for side in order})
            tell(f"round {number + 1} of {given.rounds}: {rounds[-1]}")
    found = compared(rounds)
    print(json.dumps(found | {"conditions": conditions(), "rounds": rounds}))
    sys.exit(not found["met"])


def keys_in(folder: Path) -> dict[str, str]:
    """Make a keyring, and return what tells a process of it and of a folder for data keys."""
    keyring = folder / "turnmill.keys"
    write_keyring(keyring, [new_key("1")])
    return {
        "TURNMILL_ENCRYPTION_KEYS": str(keyring),
        "TURNMILL_KEY_STORE": str(folder / "data-keys"),
    }


def template(
    here: Ground, env: Mapping[str, str], sessions: int, said: Mapping[str, object]
) -> str:
    """Make a database of sessions, sealed where keys are named, with no row left behind."""
    name = here.template(sessions=sessions)
    url = here.postgres.url_of(name)
    if said:
        with psycopg.connect(url) as conn:
            conn.execute("UPDATE turnmill.sessions SET settings = %s", [json.dumps(said)])
    if env:
        keys = keys_for(Settings.from_env({**env, "TURNMILL_DATABASE_URL": url}))
        with closing(Database(url, keys=keys)) as database:
            while database.run(reseal, limit=_CHUNK):
                pass
    with psycopg.connect(url, autocommit=True) as conn:
        row = conn.execute(_PLAIN).fetchone()
        if env and row != (0,):
            raise RuntimeError("messages of the encrypted side stand plain")
        row = conn.execute(_SEALED).fetchone()
        if row != (sessions if "TURNMILL_ENCRYPT_SETTINGS" in env else 0,):
            raise RuntimeError("settings are sealed on another side than the one that chose it")
        conn.execute("VACUUM (FULL, ANALYZE)")
        conn.execute("VACUUM ANALYZE")  # the visibility map is not there after a full one
    return name


def cost(here: Ground, template: str, env: Mapping[str, str]) -> dict[str, float]:
    """Return the CPU milliseconds of a turn, by part, and of all."""
    system = SYSTEMS["interactive"]
    with told(env):
        found = measure(system, _LOAD, ground=here, template=template, windows=_WINDOWS)
    return {part: one.median for part, one in found.cpu_ms.items()}


@contextmanager
def told(env: Mapping[str, str]) -> Iterator[None]:
    """Let clients and workers that are started meanwhile be told this."""
    before = {name: os.environ.get(name) for name in env}
    os.environ.update(env)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def compared(rounds: Sequence[Round]) -> dict[str, object]:
    """Return what both sides cost, and by how much one is more: round by round, as they drift."""
    more = between("plain", "encrypted", rounds)
    sides = {side: round(median(one[side]["all"] for one in rounds), 3) for side in rounds[0]}
    found = {**sides, "more": more, "most": MOST, "met": more["all"] <= MOST}
    if _SETTINGS in rounds[0]:
        found["more_of_settings"] = between("encrypted", _SETTINGS, rounds)
        ratios = (one[_SETTINGS]["all"] / one["encrypted"]["all"] for one in rounds)
        found["ratio_of_settings"] = round(median(ratios), 3)
    return found


def between(one: str, other: str, rounds: Sequence[Round]) -> dict[str, float]:
    """Return by how much the other side is more, by part."""
    return {
        part: round(median(found[other][part] - found[one][part] for found in rounds), 3)
        for part in rounds[0][one]
    }


if __name__ == "__main__":
    main()
