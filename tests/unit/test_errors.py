"""Errors: one tree, as drawn; each says what is wrong and what to do, and crosses processes."""

import inspect
import pickle
import re
import traceback
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

import turnmill
from turnmill.domain import errors
from turnmill.domain.errors import TurnmillError
from turnmill_worker.stack import errors as errors_of_the_stack


def classes_of(module: ModuleType) -> list[type[TurnmillError]]:
    found = [found for _, found in inspect.getmembers(module, inspect.isclass)]
    return [one for one in found if issubclass(one, TurnmillError)]


CLASSES = classes_of(errors)
_LINE = re.compile(r"^(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)", re.MULTILINE)


def drawn(module: ModuleType) -> dict[str, str | None]:
    """Return the parent of each class in the tree of the module's docstring."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for match in _LINE.finditer((module.__doc__ or "").partition("\n\n")[2]):
        depth = len(match["indent"]) // 4
        path = [*path[:depth], match["name"]]
        parents[match["name"]] = path[-2] if depth else None
    return parents


def made(kind: type[TurnmillError]) -> TurnmillError:
    """Return an error of this class with something in every field."""
    given: dict[str, Any] = {
        "hint": "do this",
        "retry_after": timedelta(seconds=3),
        "turn_id": "a turn",
        "error_code": "a_code",
        "detail": "words of a provider",
        "request_id": "req_1",
        "problems": [(3, "no text")],
        "kept": ("resp_1",),
        "answered": True,
        "of_account": True,
        "used": ("a reply",),
        "version": 7,
    }
    _first, *wanted = inspect.signature(kind).parameters
    return kind("the_message", **{name: given[name] for name in wanted})


@pytest.mark.parametrize("module", [errors, errors_of_the_stack], ids=lambda one: one.__name__)
def test_a_tree_is_drawn_as_it_is(module: ModuleType) -> None:
    classes = classes_of(module)
    real = {
        kind.__name__: next((base.__name__ for base in kind.__bases__ if base in classes), None)
        for kind in classes
    }
    assert drawn(module) == real


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_crosses_processes_whole(kind: type[TurnmillError]) -> None:
    error = made(kind)
    error.index = 7
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.hint, again.index) == (str(error), error.hint, 7)
    assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_traceback_ends_with_the_hint_and_the_message_is_without_it(
    kind: type[TurnmillError],
) -> None:
    error = made(kind)
    last = traceback.format_exception(error)[-1].strip()
    assert last == f"hint: {error.hint}"
    assert error.hint and error.hint not in str(error)


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_has_a_code_of_its_own(kind: type[TurnmillError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
    assert [other for other in CLASSES if other.code == kind.code] == [kind]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_without_words_says_what_its_class_says(kind: type[TurnmillError]) -> None:
    needs: dict[str, Any] = {}
    if kind is errors.QueueFull:
        needs["retry_after"] = timedelta(0)
    error = kind(**needs)
    said = error.code if issubclass(kind, errors.ProviderError) else inspect.getdoc(kind)
    assert str(error) == (said or "").splitlines()[0]


def test_errors_are_also_what_python_calls_them() -> None:
    assert issubclass(errors.InvalidInput, ValueError)
    assert issubclass(errors.NotFound, LookupError)
    assert issubclass(errors.TurnTimeout, TimeoutError)


def test_whoever_catches_a_failed_turn_catches_a_dead_one() -> None:
    with pytest.raises(errors.TurnFailed) as caught:
        raise errors.TurnDead(turn_id="t", error_code="worker_lost")
    assert (caught.value.turn_id, caught.value.error_code) == ("t", "worker_lost")


def test_the_words_of_a_provider_are_in_no_message() -> None:
    error = errors.Rejected("invalid_request", detail="you said: my secret")
    assert "secret" not in str(error)
    assert "secret" not in repr(error)


def test_what_a_client_can_raise_is_public() -> None:
    private = [
        kind.__name__
        for kind in CLASSES
        if not issubclass(kind, errors.ProviderError) and not hasattr(turnmill, kind.__name__)
    ]
    assert private == []
