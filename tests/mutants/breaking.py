"""What a mutant is, and how it breaks what stands."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from turnmill.store.postgres import settling


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One rule that is left out."""

    rule: str
    #: Leaves the rule out; the patches are undone when the test has ended.
    breaks: Callable[[pytest.MonkeyPatch], None]
    killed_by: str  #: id of the test that must fail


def without(
    module: Any, name: str, *changes: tuple[str, str]
) -> Callable[[pytest.MonkeyPatch], None]:
    """Return what replaces words, each of which must be there once, in all forms of a statement."""

    def changed(said: Any) -> Any:
        if isinstance(said, dict):
            return {form: changed(one) for form, one in said.items()}
        for old, new in changes:
            if said.count(old) != 1:
                raise AssertionError(f"{name} no longer says {old!r} once: renew the mutant")
            said = said.replace(old, new)
        return said

    return lambda patch: patch.setattr(module, name, changed(getattr(module, name)))


def settling_without(*changes: tuple[str, str]) -> Callable[[pytest.MonkeyPatch], None]:
    """Return what replaces words of both statements that settle."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        for name in ("_SETTLE", "_SETTLE_ALL"):
            without(settling, name, *changes)(patch)

    return apply


def instead(module: Any, name: str, function: Any) -> Callable[[pytest.MonkeyPatch], None]:
    """Return what puts another function in the place of one."""
    return lambda patch: patch.setattr(module, name, function)
