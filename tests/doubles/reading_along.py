"""Whoever reads a reply along, and a vendor that streams it."""

import json
from dataclasses import dataclass, field
from typing import Any

from tests.contract.rigs import a_request
from tests.doubles import streams
from tests.doubles.mutations import PAYLOADS
from tests.doubles.raw_vendor import SETTINGS, RawVendor, Wire
from turnmill.domain.errors import ProviderError
from turnmill_worker.providers.port import Done, Provider, Running

TEXT = "Zürich 🏔️ is\n\nin  Switzerland 🇨🇭."


@dataclass(slots=True)
class Heard:
    """Whoever reads along."""

    pieces: list[str] = field(default_factory=list)

    async def emit(self, piece: str) -> None:
        self.pieces.append(piece)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def events_of(api: str, text: str = TEXT, *, size: int = 3) -> list[bytes]:
    """Return the events of an answer that says this."""
    payload = json.loads(json.dumps(PAYLOADS[api]))
    if api == "chat":
        payload["choices"][0]["message"]["content"] = text
        return [streams.written(one) for one in streams.chat_events(payload, size=size)]
    if api == "messages":
        payload["content"][1]["text"] = text
        return [streams.written(one) for one in streams.message_events(payload, size=size)]
    payload["output"][2]["content"][0]["text"] = text
    return [streams.written(one) for one in streams.response_events(payload, size=size)]


async def sent(
    provider: Provider, api: str, heard: Heard, **given: Any
) -> Done | Running | ProviderError:
    settings = {**SETTINGS[api], **given.pop("settings", {})}
    try:
        return await provider.send(a_request(settings=settings, **given), heard.emit)
    except ProviderError as error:
        return error


async def told(vendor: RawVendor, api: str, wire: Wire, **given: Any) -> tuple[Any, Heard]:
    """Return what a provider makes of this answer, and what it has emitted."""
    vendor.meet(wire)
    provider, heard = vendor.provider(api), Heard()
    try:
        return await sent(provider, api, heard, **given), heard
    finally:
        await provider.aclose()
