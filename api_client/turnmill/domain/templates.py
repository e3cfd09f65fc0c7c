"""Templates: how they are named, the words that are put into them, and how two are compared."""

import re
from collections.abc import Iterable, Iterator, Mapping
from json import dumps
from typing import Any, NamedTuple

from turnmill.domain.arguments import plain_number
from turnmill.domain.bounds import MOST_OPENING, MOST_VARIABLES, TEMPLATE_NAME
from turnmill.domain.errors import InvalidInput
from turnmill.domain.json_values import json_object
from turnmill.domain.plain import fields_of, items_of, text_of

_NAME = re.compile(TEMPLATE_NAME)
_REF = re.compile(f"({TEMPLATE_NAME})(?:@([1-9][0-9]{{0,8}}))?")
_WORD = "[A-Za-z_][A-Za-z0-9_]{0,63}"
#: `{{word}}` is `{word}` to the letter; `{word}` is a place for a variable; all else is text.
_PLACE = re.compile(rf"\{{\{{({_WORD})\}}\}}|\{{({_WORD})\}}")
_ROLES = ("user", "assistant")
_REF_HINT = 'template="support" for the version that is current, or "support@3"'
_VARIABLES_HINT = 'variables={"product": "Turnmill"}: texts and numbers'
_OPENING_HINT = 'opening=[{"role": "assistant", "content": "Hello {name}!"}]'
_FIRST = ("provider", "model", "system_prompt", "variables", "opening")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


class TemplateRef(NamedTuple):
    """A template as a caller names it."""

    name: str
    version: int | None  #: None: the one that is current


class TemplateChange(NamedTuple):
    """What differs between two versions; None is what one of them does not say."""

    path: str  #: such as `settings.temperature`
    before: Any
    after: Any

    def __repr__(self) -> str:
        return f"TemplateChange({self.path!r})"  # never what a prompt says


def name_given(value: object) -> str:
    """Return the name of a template; raises InvalidInput."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return str.__str__(value)
    raise InvalidInput(
        "the name of a template must be up to 100 letters, digits, -, _ and .", hint='"support"'
    )


def ref_given(value: object) -> TemplateRef:
    """Return which template is meant; raises InvalidInput."""
    found = _REF.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidInput("a template is named by its name, or name@version", hint=_REF_HINT)
    return TemplateRef(found[1], None if found[2] is None else int(found[2]))


def opening_given(value: object) -> list[dict[str, str]]:
    """Return the messages that a session begins with; what they say is not checked yet."""
    if value is None:
        return []
    listed = items_of(value, most=MOST_OPENING) if isinstance(value, list | tuple) else None
    if listed is None:
        raise InvalidInput("opening must be a list of messages", hint=_OPENING_HINT)
    if len(listed) > MOST_OPENING:
        raise InvalidInput(f"opening has more than {MOST_OPENING} messages", hint="say less")
    return [_opening(one) for one in listed]


def _opening(one: object) -> dict[str, str]:
    said = fields_of(one, most=2) if isinstance(one, dict) else None
    if said is None or {text_of(name) for name in said} != {"role", "content"}:
        raise InvalidInput("a message of opening has a role and content", hint=_OPENING_HINT)
    found = {text_of(name): text_of(text) for name, text in said.items()}
    role, content = found["role"], found["content"]
    if role is None or role not in _ROLES or content is None:
        raise InvalidInput(
            f"a message of opening has a text, and a role of {' and '.join(_ROLES)}",
            hint=_OPENING_HINT,
        )
    return {"role": role, "content": content}


def declared(variables: object, texts: Iterable[str]) -> dict[str, str | None]:
    """Return the variables that texts have places for, with what stands there unless it is given.

    None: it has to be given. Raises InvalidInput for a default that has no place.
    """
    places = {place: None for text in texts for place in _places(text)}
    if len(places) > MOST_VARIABLES:
        raise InvalidInput(f"there are more than {MOST_VARIABLES} variables", hint="use fewer")
    defaults = _mapping(variables, none=True)
    if spare := sorted(set(defaults) - set(places)):
        raise InvalidInput(
            f"no text has a place for the variable {spare[0][:64]}",
            hint=f"write {{{spare[0][:64]}}} where it is to stand",
        )
    return {**places, **defaults}


def values_for(variables: object, known: Mapping[str, str | None]) -> dict[str, str]:
    """Return what stands in each place; raises InvalidInput for what is missing, or has no place.

    The error names variables, and quotes no value.
    """
    given = _mapping(variables, none=False)
    if spare := sorted(set(given) - set(known)):
        listed = ", ".join(sorted(known)) or "none"
        raise InvalidInput(
            f"the template has no variable {spare[0][:64]}", hint=f"its variables: {listed}"
        )
    values = {name: given.get(name, default) for name, default in known.items()}
    if missing := sorted(name for name, value in values.items() if value is None):
        raise InvalidInput(
            f"the template needs variables: {', '.join(missing)}",
            hint=f'variables={{"{missing[0]}": "…"}}',
        )
    return {name: value for name, value in values.items() if value is not None}


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return the text with the values in their places; what a value says is not looked at."""
    return _PLACE.sub(lambda found: f"{{{found[1]}}}" if found[1] else values[found[2]], text)


def _places(text: str) -> Iterator[str]:
    return (found[2] for found in _PLACE.finditer(text) if found[2])


def _mapping(variables: object, *, none: bool) -> dict[str, str | None]:
    if variables is None:
        return {}
    given = json_object(variables, name="variables")
    if len(given) > MOST_VARIABLES:
        raise InvalidInput(f"there are more than {MOST_VARIABLES} variables", hint="use fewer")
    return {_word(name): _value(one, none=none) for name, one in given.items()}


def _word(name: object) -> str:
    if isinstance(name, str) and re.fullmatch(_WORD, name):
        return str.__str__(name)
    raise InvalidInput(
        "a variable is named by up to 64 letters, digits and _", hint=_VARIABLES_HINT
    )


def _value(value: object, *, none: bool) -> str | None:
    if value is None and none:
        return None
    if isinstance(value, str):
        return str.__str__(value)
    if (number := plain_number(value)) is not None:
        return repr(number)
    raise InvalidInput(
        f"a variable stands for a text or a number, not {type(value).__name__}",
        hint=_VARIABLES_HINT,
    )


def changes_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[TemplateChange]:
    """Return what differs, by where it stands."""
    old, new = dict(_flat(before)), dict(_flat(after))
    return [
        TemplateChange(path, old.get(path), new.get(path))
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path)
    ]


def lines_between(
    before: Mapping[str, Any], after: Mapping[str, Any], *, names: tuple[str, str]
) -> list[str]:
    """Return what differs as lines that begin with + and -, with some of what stands around."""
    from difflib import unified_diff  # noqa: PLC0415  every client imports this, and few compare

    old, new = list(lines_of(before)), list(lines_of(after))
    return list(unified_diff(old, new, *names, lineterm="", n=2))


def lines_of(definition: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a template says, one thing a line; of texts, a sentence a line."""
    for path, value in _flat(definition):
        if isinstance(value, str) and ("\n" in value or _SENTENCE.search(value)):
            yield f"{path}:"
            for line in value.splitlines():
                yield from (f"  {sentence}" for sentence in _SENTENCE.split(line))
        else:
            yield f"{path}: {dumps(value, ensure_ascii=False)}"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all that is no container of containers, and where it stands."""
    if isinstance(value, Mapping) and value:
        for key, one in sorted(value.items(), key=_place_of if not path else None):
            yield from _flat(one, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        for n, one in enumerate(value):
            yield from _flat(one, f"{path}[{_label(one, n)}]")
    else:
        yield path, value


def _place_of(field: tuple[str, Any]) -> tuple[int, str]:
    """Return where a field is read: who is asked, then what he is told, then all else by name."""
    name, _ = field
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)


def _label(one: Any, n: int) -> str:
    """Return by what an item is found again when others are put before it."""
    if isinstance(one, str):
        return one
    name = one.get("name") if isinstance(one, dict) else None
    return name if isinstance(name, str) else str(n + 1)
