"""Tools: functions of an application's own that a model may call, and that workers run.

@turnmill.tool
def weather(city: str) -> str:
    \"\"\"Tell the weather of today.

Args:
        city: As people there call it.
    \"\"\"
    return "sunny"
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, update_wrapper
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Generic,
    NoReturn,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from turnmill.domain.arguments import one_of, yes_or_no
from turnmill.domain.bounds import LONGEST_DELAY, LONGEST_TIMEOUT, SHORTEST_TIMEOUT
from turnmill.domain.errors import InvalidTool, MissingExtra
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Effects

P = ParamSpec("P")
T = TypeVar("T")

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_TIMEOUT = timedelta(seconds=60)
#: So long somebody may take to agree where nothing else is said.
EXPIRES = timedelta(days=1)
#: Of what is wrong with a call, the model is told so much.
_MOST_FAULTS = 20
_MOST_WORDS = 2_000
#: A model that could say it would say whose call it is.
_CONTEXT_ALONE = "a parameter of its own, annotated as ToolContext"
_NAMED_ONLY = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class ToolError(Exception):
    """Raised by a tool to tell the model, in these words, why it has no output.

    Of any other error the model is told the type alone: its words may be a secret.
    """

    def __init__(self, words: str) -> None:
        super().__init__(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """What a tool is told of the call: for a parameter that is annotated with it."""

    turn_id: TurnId
    session_id: SessionId
    user_id: str = field(repr=False)  #: whose session it is
    metadata: Mapping[str, Any] = field(repr=False)  #: of the turn
    attempt: int  #: of the turn's step
    step: int  #: whose reply made the call; 1 for the first
    call_id: str  #: the vendor's name of the call
    #: the same for every run of this call, in whatever process: for whoever it is passed on to
    idempotency_key: str


class BadCall(Exception):
    """A model has called a tool in a way that it cannot be called; its words are for the model."""


class Tool(Generic[P, T]):
    """A function that a model may call. Called by anybody else, it is that function."""

    def __init__(
        self,
        function: Callable[P, T],
        *,
        name: str | None = None,
        timeout: timedelta = _TIMEOUT,
        effects: Effects | str = Effects.AT_MOST_ONCE,
        approval: bool = False,
        expires: timedelta = EXPIRES,
    ) -> None:
        """See `tool`."""
        _require_function(function)
        self.function = function
        self.name = _checked_name(name or function.__name__)
        self.timeout = _checked_span(self.name, timeout, "timeout", LONGEST_TIMEOUT)
        self.effects: Effects = one_of(Effects, effects, name="effects")
        self.approval = yes_or_no(approval, name="approval")
        self.expires = _checked_span(self.name, expires, "expires", LONGEST_DELAY)
        self.is_async = inspect.iscoroutinefunction(function)
        _require_parameters(self.name, inspect.signature(function))
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"

    @property
    def description(self) -> str:
        """Return what the model is told of it: the docstring, but for its list of parameters."""
        return self._doc[0]

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Return the JSON schema of its arguments. Raises InvalidTool where there is none."""
        schema: dict[str, Any] = _schema_of(self._model)
        schema.pop("description", None)
        return schema

    def arguments(self, said: str, context: ToolContext) -> dict[str, Any]:
        """Return what the function is called with. Raises BadCall, in words for the model."""
        import pydantic  # noqa: PLC0415  only where tools are run

        try:
            found = self._model.model_validate_json(said or "{}")
        except pydantic.ValidationError as error:
            raise BadCall(_in_words(error)) from None
        given = {self._fields[one]: getattr(found, one) for one in found.model_fields_set}
        return given | ({self._context: context} if self._context else {})

    @cached_property
    def runs_to_read(self) -> bool:
        """Whether code of somebody reads its arguments: a validator, say, which may take long."""
        return _runs_code(self._model.__pydantic_core_schema__)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(self.function, include_extras=True)
        except Exception as error:  # noqa: BLE001
            # The edge to what somebody has written there.
            _refuse(self.name, f"an annotation cannot be read: {type(error).__name__}", error)

    @cached_property
    def _context(self) -> str:
        """The name of the parameter that is the context; empty where there is none."""
        hints = {one: self._hints.get(one) for one in inspect.signature(self.function).parameters}
        names = [name for name, hint in hints.items() if _is_context(hint)]
        for name in hints.keys() - names:
            if _mentions_context(hints[name]):
                _refuse(self.name, f"{name} holds a context", hint=_CONTEXT_ALONE)
        if len(names) > 1:
            _refuse(self.name, "it has two parameters for the context")
        return names[0] if names else ""

    @cached_property
    def _fields(self) -> dict[str, str]:
        """The parameters, by names that no model of pydantic's objects to."""
        names = inspect.signature(self.function).parameters
        return {f"p{n}": name for n, name in enumerate(names) if name != self._context}

    @cached_property
    def _model(self) -> Any:
        pydantic = _pydantic()
        signature, told = inspect.signature(self.function), self._doc[1]
        fields: dict[str, Any] = {}
        for key, name in self._fields.items():
            default = signature.parameters[name].default
            if isinstance(default, pydantic.fields.FieldInfo):
                hint = f"say {name}: Annotated[…, Field(…)], and the default behind it"
                _refuse(self.name, f"the default of {name} is a Field", hint=hint)
            words = {"description": told[name]} if told.get(name) else {}
            about = pydantic.Field(
                ... if default is inspect.Parameter.empty else default, alias=name, **words
            )
            fields[key] = (self._hints[name], about)
        try:
            config = pydantic.ConfigDict(extra="forbid")
            model = pydantic.create_model(self.name, __config__=config, **fields)
            inner = _schema_of(model).get("$defs", {})
        except Exception as error:  # noqa: BLE001
            # The same.
            _refuse(self.name, f"its parameters have no schema: {type(error).__name__}", error)
        if ToolContext.__name__ in inner:
            _refuse(self.name, "a parameter holds a context", hint=_CONTEXT_ALONE)
        return model

    @cached_property
    def _doc(self) -> tuple[str, dict[str, str]]:
        """The description, and the words on each parameter."""
        words = inspect.getdoc(self.function) or ""
        try:
            import docstring_parser  # noqa: PLC0415  only where models are told of tools
        except ImportError:
            return words, {}
        found = docstring_parser.parse(words)
        told = {one.arg_name: one.description or "" for one in found.params}
        return found.description or "", told


#: What of a schema of pydantic's runs no code where a value is read.
_NOT_READ_BY = frozenset({"cls", "metadata", "serialization", "config"})


def _runs_code(schema: Any) -> bool:
    """Tell whether a core schema of pydantic's has functions in it, or objects that see to that."""
    if isinstance(schema, Mapping):
        if schema.get("post_init") or schema.get("custom_init"):
            return True
        return any(_runs_code(one) for name, one in schema.items() if name not in _NOT_READ_BY)
    if isinstance(schema, list | tuple):
        return any(map(_runs_code, schema))
    return callable(schema) and schema not in (list, dict, set)


@overload
def tool(function: Callable[P, T], /) -> Tool[P, T]: ...
@overload
def tool(
    *,
    name: str | None = None,
    timeout: timedelta = ...,
    effects: Effects | str = ...,
    approval: bool = False,
    expires: timedelta = ...,
) -> Callable[[Callable[P, T]], Tool[P, T]]: ...
def tool(
    function: Callable[P, T] | None = None,
    /,
    *,
    name: str | None = None,
    timeout: timedelta = _TIMEOUT,
    effects: Effects | str = Effects.AT_MOST_ONCE,
    approval: bool = False,
    expires: timedelta = EXPIRES,
) -> Tool[P, T] | Callable[[Callable[P, T]], Tool[P, T]]:
    """Make a tool of a function, async or not: its annotations say how a model may call it.

    `effects` says what a second run would do: "none", "idempotent" (nothing more, under the same
    `ToolContext.idempotency_key`), or "at_most_once", which is never run again once it was begun:
    the model is told that nobody knows what came of it. That is what a tool is of which nothing is
    said. With `approval`, somebody has to agree to each call, until it `expires`. Raises
    InvalidTool, or InvalidInput for an option that makes no sense.
    """

    def decorate(decorated: Callable[P, T]) -> Tool[P, T]:
        return Tool(
            decorated,
            name=name,
            timeout=timeout,
            effects=effects,
            approval=approval,
            expires=expires,
        )

    return decorate if function is None else decorate(function)


def _refuse(name: str, why: str, cause: BaseException | None = None, hint: str = "") -> NoReturn:
    raise InvalidTool(f"{name} cannot be a tool: {why}", hint=hint) from cause


def _require_function(function: object) -> None:
    name = getattr(function, "__name__", type(function).__name__)
    if not inspect.isfunction(function) and not inspect.ismethod(function):
        _refuse(str(name), "it is no function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        _refuse(str(name), "it is a generator", hint="return the whole output")


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        _refuse("this function", "its name is none", hint="a-z, A-Z, 0-9, _ and -, at most 64")
    return name


def _checked_span(name: str, span: object, what: str, most: timedelta) -> timedelta:
    if not isinstance(span, timedelta) or not SHORTEST_TIMEOUT <= span <= most:
        _refuse(name, f"its {what} is none", hint=f"a timedelta of up to {most}")
    return span


def _require_parameters(name: str, signature: inspect.Signature) -> None:
    for one in signature.parameters.values():
        if one.kind not in _NAMED_ONLY:
            _refuse(name, f"{one} cannot be given by its name", hint="no /, *args or **kwargs")
        if one.annotation is inspect.Parameter.empty:
            _refuse(name, f"{one.name} has no annotation", hint=f"say {one.name}: str, or so")


def _is_context(hint: object) -> bool:
    """Tell whether a parameter is the context: annotated so, with words on it, or optional."""
    if get_origin(hint) is Annotated or get_origin(hint) in (Union, UnionType):
        return any(map(_is_context, _inner(hint))) and all(
            one is NoneType or _is_context(one) for one in _inner(hint)
        )
    return hint is ToolContext


def _mentions_context(hint: object) -> bool:
    is_one = isinstance(hint, type) and issubclass(hint, ToolContext)
    return is_one or any(map(_mentions_context, get_args(hint)))


def _inner(hint: object) -> tuple[object, ...]:
    return get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint)


def _pydantic() -> Any:
    try:
        import pydantic.fields  # noqa: PLC0415  a second of work, for whoever runs tools
    except ImportError as error:
        raise MissingExtra(
            "tools belong to the worker half (pydantic is missing)",
            hint="pip install 'turnmill[worker]'",
        ) from error
    return pydantic


def _schema_of(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = model.model_json_schema(by_alias=True)
    found.pop("title", None)
    for one in found.get("properties", {}).values():
        one.pop("title", None)
    return found | {"properties": found.get("properties", {})}


def _in_words(error: Any) -> str:
    """Return what is wrong with the arguments, without what was given."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [
        ".".join(str(part) for part in one["loc"]) + ": " + one["msg"]
        if one["loc"]
        else str(one["msg"])
        for one in faults[:_MOST_FAULTS]
    ]
    return "\n".join(lines)[:_MOST_WORDS]
