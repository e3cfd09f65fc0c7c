"""`turnmill doctor`: what is wrong, and how to mend it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import click

from turnmill.cli import FAILED, OK
from turnmill.cli.context import json_option, say
from turnmill.cli.doctor import home, parts, pooler, servers
from turnmill.cli.doctor.findings import Check, Examination, Finding, Level, run_check
from turnmill.domain.errors import InvalidSetting, UnsafeSetting
from turnmill.settings import Profile
from turnmill.show.as_typed import as_typed
from turnmill.show.tables import print_json, stdout_console
from turnmill.show.terminal import on_one_line

#: In this order: a check may build on what an earlier one has found.
CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "settings": servers.check_settings,
        "home": home.check_home,
        "installed": parts.check_installed,
        "database": servers.check_database,
        "pooler": pooler.check_pooler,
        "schema": servers.check_schema,
        "clock": servers.check_clock,
        "invariants": servers.check_invariants,
        "rows": servers.check_rows,
        "broker": servers.check_broker,
        "providers": parts.check_providers,
        "vendors": parts.check_vendors,
        "events": parts.check_events,
        "workers": parts.check_workers,
        "schedule": parts.check_schedule,
        "flower": parts.check_flower,
        "binaries": parts.check_binaries,
    }
)

_MARKS = {
    Level.OK: ("✓", "green"),
    Level.NOTE: ("•", "yellow"),
    Level.WRONG: ("✗", "bold red"),
    Level.SKIPPED: ("–", "dim"),
}


@click.command("doctor")
@json_option
def command(*, as_json: bool) -> int:
    """Look at everything that Turnmill needs; exit code 1 when something is wrong.

    Reads TURNMILL_* and provider keys from this environment: run it where a worker runs.
    """
    findings = []
    for finding in _all_findings():
        findings.append(finding)
        if not as_json:
            _print(finding)
    wrong = sum(finding.level is Level.WRONG for finding in findings)
    if as_json:
        found = [dataclasses.asdict(finding) for finding in findings]
        print_json({"ok": wrong == 0, "wrong": wrong, "findings": found})
    else:
        say(f"\n{wrong} wrong" if wrong else "\nnothing is wrong")
    return FAILED if wrong else OK


def _all_findings() -> Iterator[Finding]:
    try:
        examination = _examination()
    except InvalidSetting as error:
        # Nothing can be looked at with settings that nobody understands.
        yield Finding(check="settings", level=Level.WRONG, what=str(error), fix=error.hint)
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
    from rich.table import Table
    from rich.text import Text

    mark, style = _MARKS[finding.level]
    line = Table.grid(padding=(0, 1))
    line.add_column(style=style)
    line.add_column(min_width=10, style="dim")
    line.add_column(overflow="fold")
    line.add_row(mark, finding.check, Text(on_one_line(finding.what)))
    if finding.fix:
        line.add_row("", "", Text(f"→ {on_one_line(as_typed(finding.fix))}", style="bold"))
    stdout_console().print(line)
