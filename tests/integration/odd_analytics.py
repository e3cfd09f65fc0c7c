"""Odd values for whoever looks at conversations: see `odd_inputs`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tests.integration.odd_inputs import Verb


def _asked(verb: str, name: str, at: Any, value: Any) -> Any:
    ask: Callable[..., Any] = getattr(at.client.analytics, verb)
    return ask(**{name: value})


OF_ANALYTICS: Mapping[str, Verb] = {
    f"analytics.{verb}({name})": Verb(partial(_asked, verb, name))
    for verb, names in (
        ("suggest", "session user_id since until thorough"),
        ("behaviours", "session user_id since until examples thorough"),
    )
    for name in names.split()
}
