"""A variable that was set in vain is named, with the one that was meant."""

import re
from pathlib import Path

import pytest

import turnmill
import turnmill_worker
from turnmill.variables import VARIABLES, slips
from turnmill_worker.celery.schedule import SCHEDULE, variable_of

SOURCES = [Path(str(package.__file__)).parent for package in (turnmill, turnmill_worker)]


def test_the_table_has_every_variable_that_is_read_and_no_other() -> None:
    read = {variable_of(name) for name in SCHEDULE}
    for file in (file for folder in SOURCES for file in folder.rglob("*.py")):
        if file.name != "variables.py":
            read |= set(re.findall(r'"(TURNMILL_[A-Z_]+[A-Z])"', file.read_text(encoding="utf-8")))
    assert read == VARIABLES


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TURNMILL_CONCURENCY", "TURNMILL_CONCURRENCY"),
        ("TURNMILL_DB_URL", "TURNMILL_DATABASE_URL"),
        ("TURNMIL_DATABASE_URL", "TURNMILL_DATABASE_URL"),
        ("TURNMILL_SCHEDULE_PRUGE", "TURNMILL_SCHEDULE_PURGE"),
        ("turnmill_lease", "TURNMILL_LEASE"),
    ],
)
def test_a_misspelt_variable_is_named_with_the_one_that_is_meant(name: str, meant: str) -> None:
    assert slips({name: "5"}) == [f"{name} is read by nothing: is {meant} meant?"]


def test_a_variable_that_resembles_none_is_named_and_its_value_never_is() -> None:
    [line] = slips({"TURNMILL_XYZZY": "secret"})
    assert "TURNMILL_XYZZY" in line and "secret" not in line


def test_variables_of_others_are_none_of_our_business() -> None:
    known = dict.fromkeys(VARIABLES, "1")
    assert slips(known | {"TURN_SERVER": "x", "TURNIP": "y", "PATH": "z", "MY_TURNMILL_": ""}) == []
