"""A provider for Turnmill that says what it was told: the smallest one that keeps all promises."""

import os
from typing import Self

from turnmill.domain.errors import KeyMissing, Rejected, ThreadLost
from turnmill_worker.providers import Done, Emit, Request, Unknowable, Usage


class EchoProvider:
    """Answers with the text of the turn, loudly if `ECHO_VOICE` is set to `loud`."""

    name = "echo"

    def __init__(self, *, loud: bool = False) -> None:
        self._loud = loud

    @classmethod
    def from_env(cls) -> Self:
        """Make the provider of this process; whatever it needs comes from the environment."""
        voice = os.environ.get("ECHO_VOICE")
        if not voice:
            raise KeyMissing(hint="set ECHO_VOICE to loud or quiet in the worker's environment")
        return cls(loud=voice == "loud")

    async def send(self, request: Request, emit: Emit | None = None) -> Done:
        """Answer; a real provider would make exactly one HTTP request here, without retries."""
        if request.thread_ref:  # of another provider, which kept what is missing in this request
            raise ThreadLost("thread_kept_elsewhere")
        if request.model != "echo-1":
            raise Rejected("model_not_found", detail=f"there is no model {request.model!r}")
        text = request.text.upper() if self._loud else request.text
        if emit is not None:
            await emit(text)
        shown = sum(len(message.text) for message in request.history) + len(request.text)
        usage = Usage(input_tokens=shown, output_tokens=len(text))
        return Done(text=text, usage=usage, model=request.model)

    async def check(self, request: Request) -> Unknowable:
        """An echo leaves no trace; saying it twice does no harm."""
        return Unknowable(resend_is_safe=True)

    async def close(self, thread_ref: str) -> None:
        """There is no thread to give up."""

    async def aclose(self) -> None:
        """There is no connection to close."""
