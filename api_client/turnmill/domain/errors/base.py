"""The root of all errors, and those of how Turnmill is set up."""

from collections.abc import Callable
from typing import Any, ClassVar


def _rebuild(cls: "type[TurnmillError]", args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class TurnmillError(Exception):
    """The root of all errors raised on purpose."""

    code: ClassVar[str] = "turnmill_error"
    hint: str = ""
    index: int | None = None  #: which message, where several were sent in one call

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])
        if hint is not None:
            self.hint = hint
        if self.hint:
            self.add_note(f"hint: {self.hint}")  # a traceback shows it below the message

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class ConfigurationError(TurnmillError):
    """Something is set up wrongly."""

    code = "configuration_error"


class InvalidSetting(ConfigurationError):
    """A setting cannot be understood."""

    code = "invalid_setting"


class UnsafeSetting(ConfigurationError):
    """The production profile refuses this setting."""

    code = "unsafe_setting"


class MissingExtra(ConfigurationError):
    """A part of Turnmill is not installed."""

    code = "missing_extra"


class InvalidTool(ConfigurationError):
    """A function cannot be a tool as it stands."""

    code = "invalid_tool"


class UnsupportedByStore(ConfigurationError):
    """This store cannot promise what was asked."""

    code = "unsupported_by_store"
    hint = "use a postgresql:// URL; SQLite and memory serve a single process"
