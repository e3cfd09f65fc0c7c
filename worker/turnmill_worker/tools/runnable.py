"""What can be run as a tool, whoever made it, and how it says that it has failed."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

from turnmill.domain.states import Effects
from turnmill.tools import ToolContext, ToolError


class Runnable(Protocol):
    """A function with the decorator `turnmill.tool`, or a tool of an MCP server."""

    @property
    def name(self) -> str:
        """Under which models call it."""

    @property
    def description(self) -> str:
        """What a model is told of it."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON schema of its arguments."""

    @property
    def timeout(self) -> timedelta:
        """How long one call may take."""

    @property
    def effects(self) -> Effects:
        """What a second run would do."""

    @property
    def approval(self) -> bool:
        """Whether somebody has to agree to each call."""

    @property
    def expires(self) -> timedelta:
        """How long somebody may take for that."""

    @property
    def is_async(self) -> bool:
        """Whether the function is run on the event loop."""

    @property
    def runs_to_read(self) -> bool:
        """Whether code of somebody reads its arguments, which may take long."""

    @property
    def function(self) -> Callable[..., Any]:
        """What is called."""

    def arguments(self, said: str, context: ToolContext) -> dict[str, Any]:
        """Return what it is called with. Raises BadCall, in words for the model."""


class Failed(ToolError):
    """A tool of ours has failed, for a reason that has a code."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code
