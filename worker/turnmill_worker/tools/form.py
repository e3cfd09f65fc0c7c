"""Form: whether the text of a reply fits the JSON schema that its session asks for."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import islice
from types import MappingProxyType
from typing import Any

from turnmill.domain.errors import Rejected
from turnmill.domain.replying import FinishReason
from turnmill_worker.tools.schemas import SchemaRefused, require_usable, validator_of

#: The code of a turn whose reply has not the form that is asked for, and could not be mended.
OUTPUT_INVALID = "output_invalid"
#: The code of a turn whose model does not answer, and so not in the form that is asked for.
REPLY_REFUSED = "reply_refused"
#: The code of a turn whose reply was cut off before it had the form that is asked for.
REPLY_CUT_OFF = "reply_cut_off"
#: By how a reply has ended. Asked again, it would end so again, and be paid for again.
UNMENDED: Mapping[str | None, str] = MappingProxyType(
    {
        FinishReason.REFUSAL: REPLY_REFUSED,
        FinishReason.CONTENT_FILTER: REPLY_REFUSED,
        FinishReason.LENGTH: REPLY_CUT_OFF,
        FinishReason.CONTEXT_FULL: REPLY_CUT_OFF,
    }
)
OF_FORM = frozenset({OUTPUT_INVALID, *UNMENDED.values()})

_MOST_FAULTS = 10
_MOST_WORDS = 2_000
_WITHIN = timedelta(seconds=5)
_MOST_REMEMBERED = 100


def form_refused(refused: SchemaRefused) -> Rejected:
    """Return the error of a turn that asks for a form to which no reply can be held."""
    return Rejected(
        "setting_refused",
        detail=f"setting 'response_format': {refused}",
        hint="docs/tools.md says which schemas a reply can be held to; `client.sessions.update`"
        " changes the setting",
    )


def fault_of(text: str, finish_reason: str | None, schema: Mapping[str, Any]) -> str:
    """Return the code of a reply that has not the form that is asked for; "" where it has.

    As `misfits`, it may take its time, and raises nothing.
    """
    try:
        if not misfits(text, schema):
            return ""
    except SchemaRefused as refused:
        return form_refused(refused).error_code
    return UNMENDED.get(finish_reason, OUTPUT_INVALID)


class Forms:
    """The forms that replies of this process can be held to, as far as they were looked at.

    Of one that is none a reply is paid for in vain: so it is looked at before anybody is asked.
    """

    def __init__(self) -> None:
        self._usable: OrderedDict[str, None] = OrderedDict()

    async def require(self, schema: Mapping[str, Any]) -> None:
        """Raise SchemaRefused where nothing can be held to the schema."""
        said = json.dumps(schema)
        if said in self._usable:
            return
        await asyncio.to_thread(require_usable, schema)
        self._usable[said] = None
        if len(self._usable) > _MOST_REMEMBERED:
            self._usable.popitem(last=False)


def misfits(text: str, schema: Mapping[str, Any], *, within: timedelta = _WITHIN) -> str:
    """Return what is wrong with the text, in words for the model; empty where it fits.

    Raises SchemaRefused for a schema that is none, or to which it cannot be held within that time.
    It may take its time: not for an event loop.
    """
    try:
        said = json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        return f"It is no JSON: {error}"[:_MOST_WORDS]
    faults = islice(_faults(said, schema, within), _MOST_FAULTS)
    return "\n".join(faults)[:_MOST_WORDS]


def _no_json(name: str) -> Any:
    raise ValueError(f"{name} stands there")


def _faults(said: Any, schema: Mapping[str, Any], within: timedelta) -> Iterator[str]:
    from referencing.exceptions import Unresolvable  # noqa: PLC0415  only where it is asked for

    try:
        for error in validator_of(schema, within=within).iter_errors(said):
            yield f"{error.json_path}: {error.message}"
    except ArithmeticError:
        yield "It has a number that is beyond all bounds."
    except (Unresolvable, RecursionError) as error:
        raise SchemaRefused(type(error).__name__) from None
