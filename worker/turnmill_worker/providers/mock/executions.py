"""What the mock has executed, written outside the process: the vendor's own books, for `check`.

One JSON object a line, each appended by a single write, so that any number of processes may share
the file and a process that is killed leaves no half of a line. Ids and times only.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from turnmill.domain.ids import SessionId, TurnId
from turnmill_worker.providers.port import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that reached the vendor."""

    turn_id: TurnId
    session_id: SessionId
    attempt: int
    fence: int
    started_at: float  #: seconds since the epoch
    ended_at: float | None = None  #: None: the vendor never finished, or never said so
    step: int = 1  #: of the turn


class Executions:
    """An append-only file of calls."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def started(self, request: Request) -> None:
        """Write down that a call has arrived."""
        self._append("started", request)

    def completed(self, request: Request) -> None:
        """Write down that a call was answered, whoever may still listen."""
        self._append("completed", request)

    def calls(self) -> list[Call]:
        """Return all calls in the order in which they arrived."""
        return self._read(None)

    def calls_of(self, turn_id: TurnId) -> list[Call]:
        """Return the calls of one turn in the order in which they arrived."""
        return self._read(turn_id)

    def _append(self, event: str, request: Request) -> None:
        entry = {
            "event": event,
            "turn": str(request.turn_id),
            "session": str(request.session_id),
            "attempt": request.attempt,
            "fence": request.fence,
            "step": request.step,
            "at": time.time(),
        }
        line = json.dumps(entry, separators=(",", ":")) + "\n"
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def _read(self, turn_id: TurnId | None) -> list[Call]:
        calls: list[Call] = []
        last: dict[tuple[str, int], int] = {}
        for entry in self._entries("" if turn_id is None else str(turn_id)):
            key = entry["turn"], entry["fence"]
            if entry["event"] == "started":
                last[key] = len(calls)  # a second call under one fence stays visible as a second
                calls.append(_call(entry))
            else:
                calls[last[key]] = replace(calls[last[key]], ended_at=entry["at"])
        return calls

    def _entries(self, part: str) -> Iterator[dict[str, Any]]:
        """Yield the entries of the lines that contain `part`."""
        if not self._path.exists():
            return
        with self._path.open() as lines:
            for line in lines:
                if part in line:
                    yield json.loads(line)


def _call(entry: dict[str, Any]) -> Call:
    return Call(
        turn_id=TurnId(UUID(entry["turn"])),
        session_id=SessionId(UUID(entry["session"])),
        attempt=entry["attempt"],
        fence=entry["fence"],
        step=entry.get("step", 1),  # one that an older version wrote
        started_at=entry["at"],
    )
