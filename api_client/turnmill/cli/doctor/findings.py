"""What a check of `turnmill doctor` comes to, and how checks are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from turnmill.domain.errors import TurnmillError

if TYPE_CHECKING:
    from turnmill.settings import Settings
    from turnmill.store.database import Database


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"  #: worth knowing; nothing is wrong
    WRONG = "wrong"
    SKIPPED = "skipped"  #: could not be looked at, for something else is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    check: str
    level: Level
    what: str
    fix: str = ""  #: a command or a setting


@dataclass(slots=True, kw_only=True)
class Examination:
    """What is examined. A check may note here what later ones build on."""

    settings: Settings
    environ: Mapping[str, str] = field(repr=False)
    flower_url: str = field(default="", repr=False)  #: of the system that runs in the home
    database: Database | None = None  #: once it was reached, at this version's schema
    providers_in_use: Mapping[str, int] = field(default_factory=dict)  #: sessions of each


Check = Callable[[Examination], Iterator[tuple[Level, str, str]]]


def run_check(name: str, check: Check, examination: Examination) -> Iterator[Finding]:
    """Run one check; whatever goes wrong in it is a finding, and the next one runs."""
    try:
        for level, what, fix in check(examination):
            yield Finding(check=name, level=level, what=what, fix=fix)
    except TurnmillError as error:
        what = f"{error} [{error.code}]"
        yield Finding(check=name, level=Level.WRONG, what=what, fix=error.hint)
    except Exception as error:  # noqa: BLE001
        # The edge of a check: a diagnosis that dies of what it was to find is none.
        what = f"it could not be looked at: {type(error).__name__}"
        yield Finding(check=name, level=Level.WRONG, what=what)


def ok(what: str) -> tuple[Level, str, str]:
    """Say that it is as it should be."""
    return Level.OK, what, ""


def note(what: str, fix: str = "") -> tuple[Level, str, str]:
    """Say something worth knowing."""
    return Level.NOTE, what, fix


def wrong(what: str, fix: str) -> tuple[Level, str, str]:
    """Say what is wrong and how to mend it."""
    return Level.WRONG, what, fix


def skipped(what: str) -> tuple[Level, str, str]:
    """Say why it was not looked at."""
    return Level.SKIPPED, what, ""
