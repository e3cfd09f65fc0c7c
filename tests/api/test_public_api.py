"""What applications may rely on: it changes on purpose, or not at all."""

import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import turnmill
from tests.api.described import lines
from turnmill import testing
from turnmill_worker.providers import port

ACCEPTED = Path(__file__).with_name("public_api.txt")
REFERENCE = Path(turnmill.__file__).resolve().parents[2] / "docs" / "api.md"

#: A client, its handles and its nouns: each has a twin for asyncio.
TWINS = [name.removeprefix("Async") for name in turnmill.__all__ if name.startswith("Async")]

_WORDS = re.compile(
    r"\bAsync(?=[A-Z])|\basync (?=with)|\bawait "
    r"|\bsqlalchemy\.(ext\.asyncio\.\w+|engine\.base|orm\.session)\."
    r"|\bturnmill\.(aio|sync|executor\.\w+)\."
)


def test_the_public_surface_is_the_one_that_was_accepted() -> None:
    assert lines() == ACCEPTED.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", turnmill.__all__)
def test_every_public_name_explains_itself(name: str) -> None:
    each = getattr(turnmill, name)
    assert each.__doc__
    if not isinstance(each, type):
        return  # a union of what explains itself
    for verb in public_names(each):
        member = inspect.getattr_static(each, verb)
        if callable(member) or isinstance(member, property):
            assert inspect.getdoc(member), f"{name}.{verb}"


def test_both_clients_have_all_nouns() -> None:
    assert set(TWINS) == {
        "Accounts", "Analytics", "Attachments", "Audit", "Batch", "Batches", "Budgets", "Client",
        "Events", "Lanes", "Limits", "Participants", "Schedules", "Sessions", "Templates", "Turn",
        "Turns", "Users", "Webhooks",
    }  # fmt: skip
    for noun in (
        "analytics",
        "attachments",
        "audit",
        "batches",
        "budgets",
        "events",
        "lanes",
        "limits",
        "schedules",
        "sessions",
        "templates",
        "turns",
        "users",
    ):
        for client in (turnmill.Client, turnmill.AsyncClient):
            with_noun = {*dir(client), *inspect.getsource(client.__init__).split()}
            assert {noun, f"self.{noun}"} & with_noun


@pytest.mark.parametrize("name", TWINS)
def test_twins_have_the_same_verbs_with_the_same_options_and_words(name: str) -> None:
    assert surface(getattr(turnmill, name)) == surface(getattr(turnmill, f"Async{name}"))


@pytest.mark.parametrize("name", [*TWINS, *(f"Async{name}" for name in TWINS)])
def test_every_option_is_a_parameter_with_a_type(name: str) -> None:
    owner = getattr(turnmill, name)
    for verb in public_names(owner):
        member = inspect.getattr_static(owner, verb)
        if inspect.isfunction(member):
            for parameter in list(inspect.signature(member).parameters.values())[1:]:
                assert parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
                assert parameter.annotation is not parameter.empty, f"{verb}({parameter.name})"


@pytest.mark.parametrize("name", [*TWINS, *(f"Async{name}" for name in TWINS)])
def test_whatever_a_verb_returns_is_exported(name: str) -> None:
    owner = getattr(turnmill, name)
    for verb in public_names(owner):
        member = inspect.getattr_static(owner, verb)
        function = getattr(member, "func", getattr(member, "fget", member))
        if inspect.isfunction(function):
            returned = typing.get_type_hints(function, exported() | hidden(owner))["return"]
            for each in parts_of(returned):
                assert each in exported().values(), f"{name}.{verb} returns {each}"


def test_error_codes_are_told_apart() -> None:
    errors = [
        each
        for each in exported().values()
        if isinstance(each, type) and issubclass(each, turnmill.TurnmillError)
    ]
    codes = [each.code for each in errors]
    assert len(set(codes)) == len(codes)


def exported() -> dict[str, Any]:
    return {name: getattr(turnmill, name) for name in turnmill.__all__}


def hidden(owner: type) -> dict[str, Any]:
    """Names that only type checkers see where the class is written."""
    names = re.findall(r"\b(?:Async)?(?:Connection|Session)\b", inspect.getsource(owner))
    return {**vars(inspect.getmodule(owner)), **dict.fromkeys(names, object)}


def public_names(owner: type) -> list[str]:
    return [name for name in vars(owner) if not name.startswith("_")]


def surface(owner: type) -> dict[str, tuple[str, str]]:
    """Return what a class offers, as nobody could tell whether it is awaited."""
    found = {"": ("", said(owner.__doc__))}
    for name in ["__init__", *public_names(owner)]:
        member = inspect.getattr_static(owner, name)
        function = getattr(member, "func", getattr(member, "fget", None)) or member
        function = getattr(function, "__func__", function)
        found[name] = (said(str(inspect.signature(function))), said(function.__doc__))
    return found


def said(text: str | None) -> str:
    return _WORDS.sub("", text or "").replace("AsyncIterator", "Iterator")


def parts_of(annotation: Any) -> Iterator[type]:
    """Yield our classes in an annotation."""
    for argument in typing.get_args(annotation):
        yield from parts_of(argument)
    if isinstance(annotation, type) and annotation.__module__.startswith("turnmill"):
        yield annotation


def test_the_reference_explains_every_public_name() -> None:
    page = re.sub(r"```.*?```", "", REFERENCE.read_text(encoding="utf-8"), flags=re.DOTALL)
    explained = re.findall(r"^### (\w+)\s+[^#\s]", page, re.MULTILINE)
    mine = [name for name, one in vars(testing).items() if is_own(one, testing)]
    providers = [name for name, one in vars(port).items() if is_own(one, port)]
    assert len(mine) >= 3 and len(providers) >= 9
    assert {*turnmill.__all__, *mine, *providers} <= set(explained)


def is_own(one: object, module: ModuleType) -> bool:
    named = getattr(one, "__name__", "_")
    return getattr(one, "__module__", "") == module.__name__ and not named.startswith("_")
