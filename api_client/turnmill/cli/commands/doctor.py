"""`turnmill doctor`: what is wrong, and how to mend it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from types import MappingProxyType

import click

from turnmill.cli import OK
from turnmill.cli.context import json_option, say
from turnmill.cli.doctor import (
    alerts,
    broker,
    erasures,
    files,
    home,
    keys,
    locks,
    parts,
    pooler,
    servers,
    tags,
    work,
    workers,
)
from turnmill.cli.doctor.findings import Area, Check, Examination, Finding, Level, run_check
from turnmill.domain.errors import InvalidSetting, UnsafeSetting
from turnmill.settings import Profile
from turnmill.show.as_typed import as_typed
from turnmill.show.tables import print_json, stdout_console
from turnmill.show.terminal import on_one_line

#: What looks at every row, or imports the SDKs of vendors, may take longer than an answer.
_ALL_ROWS = timedelta(seconds=30)
_IMPORTS = timedelta(seconds=10)
#: Servers of tools are asked, and may be programs that have to start.
_TOOLS = timedelta(seconds=20)

#: In this order: a check may build on what an earlier one has found.
CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "settings": Check(servers.check_settings, Area.SETTINGS),
        "home": Check(home.check_home, Area.SETTINGS),
        "installed": Check(parts.check_installed),
        "database": Check(servers.check_database, Area.DATABASE),
        "pooler": Check(pooler.check_pooler, Area.DATABASE),
        "schema": Check(servers.check_schema, Area.SCHEMA),
        "locks": Check(locks.check_locks, Area.DATABASE),
        "clock": Check(servers.check_clock),
        "invariants": Check(servers.check_invariants, within=_ALL_ROWS),
        "rows": Check(servers.check_rows, within=_ALL_ROWS),
        "broker": Check(broker.check_broker, Area.BROKER),
        "streams": Check(broker.check_streams),
        "workers": Check(workers.check_workers, Area.WORKERS),
        "providers": Check(workers.check_providers, Area.SETTINGS, within=_IMPORTS),
        "tools": Check(parts.check_tools, Area.SETTINGS, within=_TOOLS),
        "start": Check(parts.check_start, Area.SETTINGS, within=_IMPORTS),
        "pauses": Check(work.check_pauses, Area.WORK),
        "accounts": Check(work.check_accounts, Area.WORK),
        "waiting": Check(work.check_waiting, Area.WORK),
        "failures": Check(work.check_failures, Area.WORK),
        "files": Check(files.check_files, Area.SETTINGS, within=_ALL_ROWS),
        "encryption": Check(keys.check_encryption, Area.SETTINGS),
        "tags": Check(tags.check_tags, Area.SETTINGS),
        "erasures": Check(erasures.check_erasures, Area.WORK, within=_ALL_ROWS),
        "alerts": Check(alerts.check_alerts, Area.WORK),
        "vendors": Check(parts.check_vendors),
        "events": Check(parts.check_events),
        "schedule": Check(work.check_schedule, Area.WORK, within=_IMPORTS),
        "flower": Check(parts.check_flower, Area.SETTINGS),
        "binaries": Check(parts.check_binaries),
    }
)

_NAME_WIDTH = 10  #: of a check, at least
_MARKS = {
    Level.OK: ("✓", "green"),
    Level.NOTE: ("•", "yellow"),
    Level.WRONG: ("✗", "bold red"),
    Level.SKIPPED: ("–", "dim"),
}


@click.command("doctor")
@json_option
def command(*, as_json: bool) -> int:
    """Look at everything that Turnmill needs: causes and remedies.

    Exit code 0: nothing is wrong. Otherwise that of the first in this list with something wrong:
    10 settings and providers, 11 database, 12 its schema, 13 broker, 14 workers, 15 work that
    stands still or has failed, 1 anything else. Notes are nothing wrong.

    Reads TURNMILL_* from this environment: run it where a client or a worker runs.
    """
    findings = []
    for finding in _all_findings():
        findings.append(finding)
        if not as_json:
            _print(finding)
    wrong = [finding for finding in findings if finding.level is Level.WRONG]
    code = exit_code(wrong)
    if as_json:
        found = [dataclasses.asdict(finding) for finding in findings]
        said = {"ok": not wrong, "wrong": len(wrong), "exit_code": code, "findings": found}
        print_json(said)
    else:
        say(f"\n{len(wrong)} wrong" if wrong else "\nnothing is wrong")
    return code


def exit_code(wrong: Iterable[Finding]) -> int:
    """Return the code of what is nearest to the root of all that is wrong."""
    areas = {CHECKS[finding.check].area for finding in wrong}
    return next((int(area) for area in Area if area in areas), OK)


def _all_findings() -> Iterator[Finding]:
    try:
        examination = _examination()
    except InvalidSetting as error:
        # Nothing can be looked at with settings that nobody understands.
        yield Finding(
            check="settings", level=Level.WRONG, what=str(error), fix=error.hint, code=error.code
        )
    else:
        yield from examine(examination)


def examine(examination: Examination) -> Iterator[Finding]:
    """Yield what each check comes to."""
    try:
        for name, check in CHECKS.items():
            yield from run_check(name, check, examination)
    finally:
        if examination.database is not None:
            examination.database.close()


def _examination() -> Examination:
    from turnmill.running_home import flower_url_of_home, settings_of_home

    try:
        settings = settings_of_home()
    except UnsafeSetting:
        # Look at the rest all the same; the check of the settings says what is refused.
        settings = settings_of_home(os.environ | {"TURNMILL_PROFILE": "development"})
        settings = dataclasses.replace(settings, profile=Profile.PRODUCTION)
    return Examination(
        settings=settings, environ=os.environ, flower_url=flower_url_of_home(settings)
    )


def _print(finding: Finding) -> None:
    """Print a finding: in a pipe as one line, on a terminal the remedy below it.

    A remedy is a line, however narrow the terminal: what folds it there is not copied with it.
    """
    from rich.table import Table
    from rich.text import Text

    mark, style = _MARKS[finding.level]
    what, fix = Text(on_one_line(finding.what)), on_one_line(as_typed(finding.fix))
    console = stdout_console()
    line = Table.grid(padding=(0, 1))
    line.add_column(style=style)
    line.add_column(min_width=_NAME_WIDTH, style="dim")
    line.add_column(overflow="fold")
    if fix and console.soft_wrap:
        what.append(f" → {fix}", style="bold")
    line.add_row(mark, finding.check, what)
    console.print(line)
    if fix and not console.soft_wrap:
        below = " " * (len(mark) + 1 + max(_NAME_WIDTH, len(finding.check)) + 1)
        console.print(Text(f"{below}→ {fix}", style="bold"), soft_wrap=True)
