"""Defaults: parameters that an operator's file gives to models, where a session says none."""

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

from turnmill.domain.errors import InvalidInput, InvalidSetting
from turnmill.domain.json_values import json_object
from turnmill.domain.reply_limits import laid_over
from turnmill_worker.layers.call import Call, Go, Layer
from turnmill_worker.providers.boundary import Answer
from turnmill_worker.providers.parameters import OURS

_VARIABLE = "TURNMILL_DEFAULTS"
_MOST_BYTES = 1_000_000
_EXAMPLE = '{"openai/gpt-5": {"max_output_tokens": 2000}, "anthropic/*": {"max_tokens": 2000}}'
#: What the file may not say: it is a session's, and no parameter of a model.
_OF_SESSIONS = OURS - {"timeout"}

Parameters = Mapping[str, Any]


def defaults_in(file: Path | None) -> Layer | None:
    """Return the layer that the file asks for; None without one.

    Raises InvalidSetting for a file that cannot be read, or holds no parameters of models.
    """
    return None if file is None else defaults(_read(file))


def parameters_in(file: Path | None) -> Callable[[str], Parameters]:
    """Return what the file says of a `provider/model`; raises as `defaults_in` does."""
    return _by_model({} if file is None else _read(file))


def defaults(by_model: Mapping[str, Parameters]) -> Layer:
    """Return the layer: parameters by `provider/model`, with `*` where wanted.

    A session's own settings go before them; a name that is written out before patterns, and these
    in their order, each parameter by itself.
    """
    of = _by_model(by_model)

    async def layer(call: Call, go: Go) -> Answer:
        found = of(f"{call.claim.provider}/{call.request.model}")
        if not found:
            return await go(call)
        settings = laid_over(found, call.request.settings)
        return await go(replace(call, request=replace(call.request, settings=settings)))

    return layer


def _by_model(by_model: Mapping[str, Parameters]) -> Callable[[str], Parameters]:
    patterns = sorted(by_model, key=lambda name: "*" in name)

    @lru_cache(maxsize=1024)
    def of(model: str) -> Parameters:
        matching = [by_model[one] for one in patterns if fnmatchcase(model, one)]
        return reduce(laid_over, reversed(matching), {})

    return of


def _read(file: Path) -> dict[str, Parameters]:
    is_toml = file.suffix == ".toml"
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST_BYTES + 1)
        said: Any = tomllib.loads(text.decode()) if is_toml else json.loads(text)
    except OSError as error:
        raise _refused(f"cannot be read: {type(error).__name__}") from None
    except (ValueError, RecursionError):
        raise _refused("is no TOML" if is_toml else "is no JSON") from None
    if len(text) > _MOST_BYTES or not isinstance(said, dict):
        raise _refused("holds no object of up to a megabyte")
    return {name: _parameters(name, found) for name, found in said.items()}


def _parameters(name: str, said: object) -> Parameters:
    if "/" not in name and name != "*":
        raise _refused(f"names {name[:100]!r}, which is no provider/model")
    if not isinstance(said, dict):
        raise _refused(f"says of {name[:100]!r} what are no parameters")
    if ours := sorted(_OF_SESSIONS & set(said)):
        raise _refused(f"says {ours[0]!r} of {name[:100]!r}, which a session decides")
    try:
        return json_object(said, name="parameters")
    except InvalidInput as error:
        raise _refused(f"says of {name[:100]!r} what cannot be sent: {error}") from None


def _refused(why: str) -> InvalidSetting:
    return InvalidSetting(f"{_VARIABLE}: the file {why}", hint=_EXAMPLE)
