"""Measure: what came of each call, and how long it took, is told to somebody who counts."""

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType

from turnmill.domain.errors import ProviderError
from turnmill_worker.layers.call import Call, Go, Layer
from turnmill_worker.providers.boundary import Answer, attempted
from turnmill_worker.providers.port import Absent, Done, Failed, NotNow, Running, Unknowable

#: Is told the call, what came of it, the code of an error, and how long it took.
Told = Callable[[Call, str, str | None, timedelta], None]

#: Of answers. Of errors it is the code of their class, such as `rate_limited`.
WORDS: Mapping[type[Answer], str] = MappingProxyType(
    {
        Done: "done",
        Running: "running",
        Failed: "failed",
        Absent: "absent",
        Unknowable: "unknowable",
        NotNow: "not_now",
    }
)
#: Of a call that was closed: cancelled, timed out, or given up by a worker that ends.
STOPPED = "stopped"


def measure(told: Told) -> Layer:
    """Return the layer. `told` is called on the event loop and must not block."""

    async def layer(call: Call, go: Go) -> Answer:
        began = time.perf_counter()
        outcome, code = STOPPED, None
        try:
            answer = await go(call)
            outcome = WORDS[type(answer)]
        except ProviderError as error:
            outcome, code = error.code, error.error_code
            raise
        finally:
            took = timedelta(seconds=time.perf_counter() - began)
            attempted("who counts calls", lambda: told(call, outcome, code, took))
        return answer

    return layer
