"""Celery's remote commands: who can write to the broker can give them, so few are on."""

import logging
from collections.abc import Callable, MutableMapping
from typing import Any

from turnmill.settings import RemoteControl
from turnmill.wire import ABOUT

logger = logging.getLogger("turnmill.remote")

#: What looks, what Flower and `celery inspect` need for it, and what takes a task back.
LOOKING = frozenset(
    {
        "active",
        "active_queues",
        ABOUT,
        "clock",
        "conf",
        "dump_active",
        "dump_conf",
        "dump_reserved",
        "dump_revoked",
        "dump_schedule",
        "dump_tasks",
        "enable_events",
        "heartbeat",
        "hello",
        "ping",
        "query_task",
        "registered",
        "report",
        "reserved",
        "revoke",
        "revoked",
        "scheduled",
        "stats",
    }
)

Command = Callable[..., Any]


def restrict(commands: MutableMapping[str, Command], control: RemoteControl) -> None:
    """Put a refusal in the place of every command that is off. `commands` are Celery's panel."""
    if control is RemoteControl.ALL:
        return
    for name in commands:
        if name not in LOOKING:
            commands[name] = _refusal(name)


def _refusal(name: str) -> Command:
    def refuse(state: Any, **_: Any) -> dict[str, str]:
        logger.warning("the remote command %s is off", name)
        return {"error": f"{name} is off: TURNMILL_REMOTE_CONTROL=all turns it on"}

    return refuse
