"""Form: whether the text of a reply fits the JSON schema that its session asks for."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

_MOST_FAULTS = 10
_MOST_WORDS = 2_000


def misfits(text: str, schema: Mapping[str, Any]) -> str:
    """Return what is wrong with the text, in words for the model; empty where it fits.

    Raises ValueError for a schema that is none. It may take its time: not for an event loop.
    """
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"It is no JSON: {error}"[:_MOST_WORDS]
    faults = [fault for fault, _ in zip(_faults(said, schema), range(_MOST_FAULTS), strict=False)]
    return "\n".join(faults)[:_MOST_WORDS]


def _faults(said: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    from jsonschema import exceptions, validators  # noqa: PLC0415  only where it is asked for
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    validator = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        validator.check_schema(schema)
        # With a registry that is empty, nothing is ever fetched.
        for error in validator(schema, registry=Registry()).iter_errors(said):
            yield f"{error.json_path}: {error.message}"
    except (exceptions.SchemaError, Unresolvable, RecursionError) as error:
        raise ValueError(f"the schema is none: {type(error).__name__}") from None
