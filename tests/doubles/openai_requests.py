"""What OpenAI looks at in each request before anything else."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from tests.doubles.vendor_double import Call, Refused

KEY = "sk-double"
#: Of a function, in chat completions.
DESCRIPTION_MAX = 1024


def authorised(call: Call) -> None:
    given = call.headers.get("Authorization", "")
    if not re.fullmatch(r"Bearer \S+", given):
        raise Refused(401, "missing_api_key", "You didn't provide an API key.")
    if given != f"Bearer {KEY}":
        raise Refused(401, "invalid_api_key", "Incorrect API key provided.")


def object_of(call: Call, parameters: frozenset[str]) -> dict[str, Any]:
    if call.headers.get("Content-Type") != "application/json" or not isinstance(call.body, dict):
        raise Refused(400, "invalid_json", "We could not parse the JSON body of your request.")
    unknown = set(call.body) - parameters
    if unknown:
        raise Refused(400, "unknown_parameter", f"Unknown parameter: '{min(unknown)}'.")
    return call.body


def check_descriptions(tools: Any) -> None:
    """Raise Refused for a tool that is described in more characters than are taken."""
    for n, tool in enumerate(tools or ()):
        length = len(tool.get("function", {}).get("description") or "")
        if length > DESCRIPTION_MAX:
            param = f"tools[{n}].function.description"
            wrong = (
                f"Invalid '{param}': string too long. Expected a string with maximum length"
                f" {DESCRIPTION_MAX}, but got a string with length {length} instead."
            )
            raise Refused(400, "string_above_max_length", wrong, param=param)


def check_prompt(prompt: Any, kept: Mapping[str, Mapping[str, Collection[str]]]) -> None:
    """Raise Refused for a prompt that is not kept, or lacks what it wants."""
    if prompt is None:
        return
    if not isinstance(prompt, dict) or set(prompt) - {"id", "version", "variables"}:
        raise Refused(400, "invalid_type", "Invalid type for 'prompt'.", param="prompt")
    name = prompt.get("id")
    if not isinstance(name, str):
        wrong = "Missing required parameter: 'prompt.id'."
        raise Refused(400, "missing_required_parameter", wrong, param="prompt.id")
    versions = kept.get(name, {})
    version = prompt.get("version") or max(versions, default="")
    if version not in versions:
        raise Refused(404, "", f"Prompt with id '{name}' not found.", param="prompt")
    given = prompt.get("variables") or {}
    for wanted in versions[version]:
        if wanted not in given:
            wrong = f"Missing prompt variables: {wanted}"
            raise Refused(400, "prompt_variable_missing", wrong, param="prompt.variables")
