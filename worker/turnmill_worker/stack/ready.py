"""What the stack says when the first turn could be answered."""

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Where everything is. The URLs hold passwords."""

    database_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    flower_url: str = field(repr=False)
    pid: int  #: of the supervisor: TERM to it stops everything
    home: Path
    data: Path | None  #: of the embedded Postgres

    def as_json(self) -> str:
        """Return the one line that programs read."""
        return json.dumps(
            {
                "event": "ready",
                "database_url": self.database_url,
                "broker_url": self.broker_url,
                "flower_url": self.flower_url,
                "pid": self.pid,
            }
        )

    def as_text(self) -> str:
        """Return the lines that people read."""
        lines = [
            f"database  {self.database_url}",
            f"broker    {self.broker_url}",
            f"flower    {self.flower_url}",
            f"home      {self.home}",
        ]
        if self.data is not None and not self.data.is_relative_to(self.home):
            lines.append(f"data      {self.data} (the user of Postgres cannot reach the home)")
            lines.append("          `turnmill home remove` removes both")
        return "\n".join([*lines, "", *self._next_steps()])

    def _next_steps(self) -> list[str]:
        found = self.home == Path(".turnmill").resolve()
        return [
            "Talk to it from another terminal:",
            "    turnmill chat" if found else f"    TURNMILL_HOME={self.home} turnmill chat",
            "Applications in this folder find it with Client.from_env(), others by what",
            "    turnmill env" if found else f"    TURNMILL_HOME={self.home} turnmill env",
            "prints: passwords, too.",
            "Ctrl-C stops everything; the data stay.",
        ]
