"""`turnmill doctor` names what a worker would not start without, all of it at once."""

from pathlib import Path

from turnmill import Settings
from turnmill.cli.doctor.findings import Examination, Level
from turnmill.cli.doctor.parts import check_start

NOWHERE = Path("/nowhere/at/all")


def test_each_list_and_file_that_a_worker_reads_first_is_named(database_url: str) -> None:
    settings = Settings(
        database_url=database_url,
        layers="log,nosuch",
        observers="mine=nosuch:factory",
        prices=NOWHERE,
        defaults=NOWHERE,
    )
    environ = {
        "TURNMILL_IDLE_DAYS": "soon",
        "TURNMILL_ALERTS": "cost=maybe",
        "TURNMILL_REPORT_ZONE": "Mars/North",
        "TURNMILL_ANALYTICS_TAG": "a team",
    }
    found = [*check_start(Examination(settings=settings, environ=environ))]
    assert {one.level for one in found} == {Level.WRONG}
    assert [one.what.split(" ")[0].strip(":") for one in found] == [
        *("TURNMILL_LAYERS", "TURNMILL_OBSERVERS", "TURNMILL_PRICES", "TURNMILL_DEFAULTS"),
        *environ,
    ]
    assert all(one.fix and one.code for one in found)


def test_what_is_there_is_one_line(database_url: str) -> None:
    settings = Settings(database_url=database_url, layers="log")
    [found] = check_start(Examination(settings=settings, environ={}))
    assert found.level is Level.OK
