"""One call of a tool: run within its time, and what came of it in words for the model."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from turnmill.domain.checks import storable
from turnmill.domain.states import Effects, ToolCallState
from turnmill.tools import ToolError
from turnmill_worker.providers import calls
from turnmill_worker.providers.foreign import name_of
from turnmill_worker.threads import Ran, Threads
from turnmill_worker.tools.making import Making, TooLong, is_at_hand
from turnmill_worker.tools.runnable import Failed, Runnable

logger = logging.getLogger("turnmill.tools")

#: Of an output; a longer one is told as an error.
MAX_OUTPUT_BYTES = 1_000_000
_MAX_WORDS = 4_000  #: characters of a ToolError
#: A coroutine that was cancelled may take so long to end, while its turn goes on.
_PATIENCE = timedelta(seconds=4)

UNKNOWN = (
    "The outcome of this call is unknown: it was interrupted after it had begun. It may have had"
    " its effect, and was not run again."
)
_MAY_HAVE_HAPPENED = " It may have had its effect all the same."


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What has become of a call, as the model is told."""

    state: ToolCallState
    output: str = field(repr=False)
    error_code: str | None = None

    @property
    def is_error(self) -> bool:
        """Tell whether the model is told of a failure."""
        return self.state is not ToolCallState.DONE


def failed(code: str, words: str) -> Outcome:
    """Return the outcome of a call that has failed, or could not be made."""
    return Outcome(state=ToolCallState.FAILED, output=storable(words)[:_MAX_WORDS], error_code=code)


def unknown() -> Outcome:
    """Return the outcome of a call that was interrupted and is not run again."""
    return Outcome(state=ToolCallState.UNKNOWN, output=UNKNOWN, error_code="outcome_unknown")


def expired() -> Outcome:
    """Return the outcome of a call that nobody outside has done anything about."""
    words = "Nobody answered this call in time."
    return Outcome(state=ToolCallState.EXPIRED, output=words, error_code="expired")


def unread(tool: Runnable) -> Outcome:
    """Return the outcome of a call that never began, since its arguments took all its time."""
    seconds = tool.timeout.total_seconds()
    words = f"Its arguments could not be read within {seconds:g} seconds, and nothing was done."
    return failed("tool_timeout", words)


async def run(tool: Runnable, arguments: dict[str, Any], threads: Threads) -> Outcome:
    """Run the tool; for a synchronous one a place in the threads was taken. Raises nothing of its.

    Cancelled, it closes the call: a coroutine is cancelled, and a thread is left behind.
    """
    if tool.is_async:
        return await _awaited(tool, arguments, threads)
    ended = threads.run(lambda: _done(tool.function(**arguments)))
    await asyncio.wait({ended}, timeout=tool.timeout.total_seconds())
    if not ended.done():
        return _overdue(tool)
    return _of_thread(tool, ended.result())


def _of_thread(tool: Runnable, ran: Ran) -> Outcome:
    if ran.raised is not None:
        return raised(tool, ran.raised)
    outcome: Outcome = ran.result
    return outcome


async def _awaited(tool: Runnable, arguments: dict[str, Any], threads: Threads) -> Outcome:
    call = calls.Call(_caught(tool, lambda: tool.function(**arguments), threads))
    try:
        async with asyncio.timeout(tool.timeout.total_seconds()):
            await call.wait()
    except TimeoutError:
        call.close(patience=_PATIENCE)
        return _overdue(tool)
    except asyncio.CancelledError:
        call.close(patience=_PATIENCE)
        raise
    return call.result() or failed("raised", "The tool failed: CancelledError.")


async def _caught(tool: Runnable, work: Callable[[], Any], threads: Threads) -> Outcome:
    try:
        output = await work()
        if is_at_hand(output):
            return _done(output)
        # What is lazy in it is made when it is asked for: not on our loop.
        return _of_thread(tool, await threads.call(lambda: _done(output)))
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001
        # The edge to a tool of somebody's: a SystemExit of its would end the loop.
        return raised(tool, error)


def _overdue(tool: Runnable) -> Outcome:
    words = f"The tool took longer than {tool.timeout.total_seconds():g} seconds."
    if tool.effects is not Effects.NONE:
        words += _MAY_HAVE_HAPPENED
    return failed("tool_timeout", words)


def raised(tool: Runnable, error: BaseException) -> Outcome:
    """Tell the words of a ToolError, which are meant for it, and of anything else the type."""
    if isinstance(error, ToolError):
        code = error.code if isinstance(error, Failed) else "tool_error"
        return failed(code, _words_of(error))
    name = name_of(error)
    logger.warning(
        "tool %s raised %s at %s",
        tool.name,
        name,
        _place_of(error),
        extra={"action": "tool_raised", "tool": tool.name},
    )
    return failed(f"raised:{name}"[:64], f"The tool failed: {name}.")


def _words_of(error: ToolError) -> str:
    try:
        return str(error) or "The tool failed."
    except BaseException:  # noqa: BLE001
        return "The tool failed."  # somebody's subclass


def _place_of(error: BaseException) -> str:
    """Return where in the code it was raised: a file's name and a line, and none of its words."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "an unknown place"
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def _done(output: Any) -> Outcome:
    """Tell an output in words. It may run code of the tool's: what is lazy is made only here."""
    try:
        words = _in_words(output)
    except TooLong:
        return _too_large()
    if words is None:
        return failed("output_unreadable", f"The tool's output is no JSON: {name_of(output)}.")
    if len(words) > MAX_OUTPUT_BYTES or len(words.encode()) > MAX_OUTPUT_BYTES:
        return _too_large()
    return Outcome(state=ToolCallState.DONE, output=words)


def _too_large() -> Outcome:
    words = f"The tool's output is longer than {MAX_OUTPUT_BYTES} bytes."
    return failed("output_too_large", words)


def _in_words(output: Any) -> str | None:
    """Return a text as it is, and anything else as JSON; None where it is none.

    Raises TooLong, and what the tool raises while it makes what is lazy.
    """
    if type(output) is str:
        return storable(output)
    from pydantic_core import to_json  # noqa: PLC0415  only where tools are run

    making = Making(most=MAX_OUTPUT_BYTES)
    try:
        made = making.made(output)
    except RecursionError:
        return None
    try:
        return storable(to_json(made, inf_nan_mode="strings").decode())
    except Exception:  # noqa: BLE001
        # Objects of somebody's, and what they raise when they are read.
        if making.raised is not None:
            raise making.raised from None
        return None
