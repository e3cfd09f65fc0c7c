"""Observers are chosen by entry point and dotted path."""

from typing import Any

import pytest

from tests.hostile import SECRET
from turnmill.domain.errors import InvalidSetting
from turnmill_worker.observers import CeleryTask, Event, Observer, registered


def test_a_task_of_celerys_is_an_observer_by_its_name() -> None:
    (one,) = registered.registered("crm?=celery:myapp.tasks.hear@crm")
    assert isinstance(one.observer, CeleryTask)
    assert (one.name, one.opt_in) == ("crm", True)


def test_an_observer_may_say_its_kinds_and_its_parts() -> None:
    parts = registered.registered(f"a={__name__}:divided")
    assert [one.reader for one in parts] == ["observer:a/1-2", "observer:a/2-2"]
    assert {one.subscriber for one in parts} == {"observer:a"}
    assert parts[0].asked.words == ("session.*",)


def divided() -> Observer:
    def observer(_: Event) -> None: ...

    observer.kinds, observer.parts = ["session.*"], 2  # type: ignore[attr-defined]
    return observer


def unknown_kinds() -> Observer:
    def observer(_: Event) -> None: ...

    observer.kinds = ["turn.exploded"]  # type: ignore[attr-defined]
    return observer


def make() -> Observer:
    return lambda event: None


def no_observer() -> Any:
    return 1


def breaks() -> Observer:
    raise SystemExit(SECRET)


def test_an_operator_registers_observers_by_entry_point_and_dotted_path() -> None:
    found = registered.registered(f" log, bill={__name__}:make,")
    assert [one.reader for one in found] == ["observer:log", "observer:bill"]
    assert registered.registered("") == ()


@pytest.mark.parametrize(
    "listed",
    [
        "nobody",
        "log??",
        "log=celery:",
        "log,log=celery:hear",
        f"a={__name__}:unknown_kinds",
        "No Name",
        f"a={__name__}:no_observer",
        f"a={__name__}:breaks",
        "log,log",
        ",".join(f"o{n}={__name__}:make" for n in range(17)),
    ],
)
def test_an_observer_that_is_not_there_is_a_typed_error_with_a_hint(listed: str) -> None:
    with pytest.raises(InvalidSetting, match="TURNMILL_OBSERVERS") as caught:
        registered.registered(listed)
    assert caught.value.hint and SECRET not in str(caught.value)
