"""What is sent, and how it is signed: as https://www.standardwebhooks.com has it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from turnmill.domain.states import STATES
from turnmill.store.hook_records import ToSend

#: Whose id stands in place of a session's, by the first word of the kind.
_OTHERS = {
    "batch": "batch_id",
    "account": "account_id",
    "webhook": "webhook_id",
    "alert": "alert_id",
    "report": "report_id",
}


class Signed(NamedTuple):
    """One request, but for where it goes."""

    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Signed(<{len(self.body)} bytes>)"  # never what was said


def signed(
    one: ToSend, content: Mapping[str, Any] | None, *, now: datetime | None = None
) -> Signed:
    """Return the request of a delivery: a try is as the one before, but for the moment it is of.

    Each of the webhook's secrets signs. `content` is None unless it was asked for.
    """
    from standardwebhooks import Webhook  # noqa: PLC0415  who has no webhook needs none

    moment = now or datetime.now(UTC)
    message_id = f"msg_{one.id.hex}"
    body = json.dumps(_said(one, content), ensure_ascii=False, separators=(",", ":"))
    signatures = (Webhook(secret).sign(message_id, moment, body) for secret in one.secrets)
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
    return Signed(headers, body.encode())


def _said(one: ToSend, content: Mapping[str, Any] | None) -> dict[str, Any]:
    state = STATES.get(one.kind)
    whose = _OTHERS.get(one.kind.partition(".")[0], "session_id")
    data: dict[str, Any] = {
        "event_id": f"{one.session_id}:{one.n}",
        whose: str(one.session_id),
        "turn_id": None if one.turn_id is None else str(one.turn_id),
        "n": one.n,
        "state": None if state is None else state.value,
    }
    if one.budget_id is not None:
        data |= {"budget_id": str(one.budget_id), "share": one.share}
    if content is not None:
        data["content"] = content
    return {"type": one.type, "timestamp": one.at.isoformat(), "data": data}
