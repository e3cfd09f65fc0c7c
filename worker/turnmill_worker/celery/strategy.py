"""What of a message is believed: the task, its arguments, its id, and until when it is of use."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker.state import revoked
from celery.worker.strategy import default

#: How a task names the function below.
PLAIN = f"{__name__}:plain"

_LONGEST_ID = 200
#: Nobody of ours sends another value. A moment in the future would be kept in memory, whoever sent
#: it; a time limit would end a call that the row gives time to.
_PLAIN: Mapping[str, Any] = MappingProxyType(
    {
        "eta": None,
        "timelimit": [None, None],
        "retries": 0,
        "shadow": None,
        "group": None,
        "root_id": None,
        "parent_id": None,
        "stamps": None,
        "stamped_headers": None,
        "ignore_result": True,
        "replaced_task_nesting": 0,
    }
)
#: What else Celery and kombu say of a message. JSON makes each name anew, and of each of thousands
#: of messages that wait they would be kept.
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        name: name
        for name in (
            *_PLAIN,
            *("id", "task", "lang", "origin", "expires", "argsrepr", "kwargsrepr", "group_index"),
            *("correlation_id", "reply_to", "delivery_mode", "delivery_info", "priority"),
            *("body_encoding", "delivery_tag", "exchange", "routing_key"),
        )
    }
)


def plain(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return what takes a message of the task, as Celery's own strategy does.

    Raises InvalidTaskError, for which Celery drops the message, for one that is not of its second
    protocol. A revoked id costs one hint: the row says whether the turn is to run, and the next
    hint of it is taken.
    """
    take = default(task, app, consumer, **options)

    def on_message(message: Any, body: Any, *rest: Any) -> Any:
        headers = message.headers
        task_id = headers.get("id")
        if body is not None or not isinstance(task_id, str) or len(task_id) > _LONGEST_ID:
            raise InvalidTaskError("not a message of this protocol")
        message.headers = {**_shared(headers), **_PLAIN}
        message.properties = _shared(message.properties)
        if task_id not in revoked:
            return take(message, body, *rest)
        try:
            return take(message, body, *rest)
        finally:
            revoked.discard(task_id)

    return on_message


def _shared(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same under names that all messages share."""
    return {_NAMES.get(name, name): value for name, value in said.items()}
