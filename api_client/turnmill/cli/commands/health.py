"""`turnmill health`: whether a worker or a beat of this machine lives, and does its work."""

from __future__ import annotations

import os
from pathlib import Path

import click

from turnmill import alive
from turnmill.alive import Sign, State
from turnmill.show.terminal import tell

#: What stands for them where a terminal, or a log, takes the words for more.
_LONGEST = 200
_ROOM = 2**16  #: bytes; a disk with less is full


@click.command("health")
@click.argument("program", type=click.Choice(["worker", "beat"]))
@click.option(
    "--alive/--ready",
    "life_is_enough",
    default=False,
    help="Ask whether it lives, or whether it does its work.  [default: --ready]",
)
def command(*, program: str, life_is_enough: bool) -> int:
    """Exit with 0 if it is healthy, and with 1 if not; say why. For probes: it asks no server.

    --alive: the process runs, and its event loop turns. Start it anew where it does not.
    --ready: it takes turns (a beat: sends what is due), with or without its broker.
    """
    home = Path(os.environ.get("TURNMILL_HOME") or ".turnmill")
    found = _found(program, home)
    running = [one for one in found if one.is_running]
    if not running:
        gone = ", ".join(str(one.pid) for one in found)
        full = "; its disk is full, and who started since cannot say so" if _is_full(home) else ""
        tell(f"{program}: none runs{f' (gone: {gone})' if gone else ''}, says {home}{full}")
        return 1
    for one in running:
        tell(f"{program} {one.pid}: {_said(one)}")
    return 0 if all(_is_healthy(one, life_is_enough=life_is_enough) for one in running) else 1


def _is_full(home: Path) -> bool:
    import shutil  # a probe that finds something is spared it

    try:
        return shutil.disk_usage(home).free < _ROOM
    except OSError:
        return False


def _found(program: str, home: Path) -> list[Sign]:
    named = os.environ.get("TURNMILL_ALIVE_FILE")
    if not named or program != "worker":
        return alive.signs(home, program)
    one = alive.read(Path(named))
    return [] if one is None or one.program != program else [one]


def _is_healthy(one: Sign, *, life_is_enough: bool) -> bool:
    return not one.silent_for and (life_is_enough or one.state is State.READY)


def _said(one: Sign) -> str:
    if one.silent_for:
        return f"stands still, for {one.silent_for:.0f} s"
    words = "".join(letter for letter in one.says if letter.isprintable())[:_LONGEST]
    return f"{one.state}{f': {words}' if words else ''}"
