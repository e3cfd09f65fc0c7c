"""The carrier of a process: a Redis, the process itself, or nobody."""

from turnmill.crypto.data_keys import DataKeys
from turnmill.settings import Settings
from turnmill.store.records import Claim
from turnmill.streams.carrying import redis_of_streams
from turnmill.streams.copies import Copies, LocalCopies
from turnmill_worker.streams.publishing import Carrier, Publishing, is_first


class Nobody:
    """Carries nothing: readers are told the whole by the store."""

    def begin(self, claim: Claim, *, first: bool | None = None) -> Publishing | None:
        """Return None."""
        return None

    def close(self) -> None:
        """Do nothing."""


class LocalCarrier:
    """Carries streams to readers in the same process."""

    def __init__(self, copies: LocalCopies) -> None:
        self._copies = copies

    def begin(self, claim: Claim, *, first: bool | None = None) -> Publishing | None:
        """See `Carrier`."""
        if not claim.stream:
            return None
        return Publishing(claim, self._bring, first=is_first(claim) if first is None else first)

    def close(self) -> None:
        """Do nothing: the copies are their reader's."""

    def _bring(self, publishing: Publishing) -> None:
        if entries := publishing.drain():
            self._copies.write(publishing.turn_id, entries)


def carrier_for(settings: Settings, keys: DataKeys | None = None) -> Carrier:
    """Return what carries streams of a worker, sealed by `keys`; raises InvalidSetting."""
    broker = redis_of_streams(settings)
    if broker is None:
        return Nobody()
    from turnmill_worker.streams.flusher import RedisCarrier  # noqa: PLC0415  others need no Redis

    return RedisCarrier(broker, keep_seconds=settings.stream_ttl.total_seconds(), keys=keys)


def carrier_to(copies: Copies | None) -> Carrier:
    """Return what carries streams to readers in this process."""
    return LocalCarrier(copies) if isinstance(copies, LocalCopies) else Nobody()
