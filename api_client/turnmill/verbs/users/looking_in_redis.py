"""Looking for a user in what a Redis holds: copies of replies, and hints to workers."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from turnmill.connections.broker_causes import cause_of
from turnmill.connections.broker_urls import read_broker_url
from turnmill.connections.brokers import Broker
from turnmill.connections.redis_clients import redis_client
from turnmill.crypto.envelope import PREFIX
from turnmill.settings import Settings
from turnmill.streams.carrying import redis_of_streams

_TIMEOUT_SECONDS = 5.0
_KEYS_AT_ONCE = 1000
_VALUES_AT_ONCE = 1000
_MOST_KEYS = 1_000_000
#: Of values in which nobody can look for words.
_SEALED = "sealed"


def look_in_redis(
    settings: Settings, user_id: str, words: Sequence[str], unseen: list[str]
) -> tuple[int, Mapping[str, int]]:
    """Return how many keys were looked at, and how many hold the user's id, or a word."""
    looked_at, found = 0, Counter[str]()
    for broker in _brokers(settings):
        try:
            with redis_client(broker, seconds=_TIMEOUT_SECONDS) as client:
                for key in client.scan_iter(count=_KEYS_AT_ONCE):
                    looked_at += 1
                    found.update(_told(_values(client, key), user_id, words))
                    if looked_at == _MOST_KEYS:
                        unseen.append(f"redis: more than {_MOST_KEYS} keys")
                        break
        except Exception as error:  # noqa: BLE001
            # The edge to the Redis: that nobody could look there is told.
            unseen.append(f"redis: {cause_of(error)}")
    if found.pop(_SEALED, 0):
        unseen.append("redis: encrypted")
    return looked_at, found


def _brokers(settings: Settings) -> list[Broker]:
    """Return each Redis once that may hold something."""
    found = [one for one in (redis_of_streams(settings),) if one is not None]
    if settings.broker_url:
        broker = read_broker_url(settings.broker_url)
        if broker.is_redis_like and broker not in found:
            found.append(broker)
    return found


def _told(values: Iterable[bytes], user_id: str, words: Sequence[str]) -> set[str]:
    found: set[str] = set()
    quoted = _in_json(user_id)
    wanted = {
        form for word in words for form in (word.encode(), *(one[1:-1] for one in _in_json(word)))
    }
    for value in values:
        if value == user_id.encode() or any(one in value for one in quoted):
            found.add("id")
        if any(form in value for form in wanted):
            found.add("word")
        if wanted and PREFIX.encode() in value:
            found.add(_SEALED)
    return found


def _in_json(text: str) -> list[bytes]:
    """Return how a string stands in JSON, in either way of writing it."""
    return [json.dumps(text, ensure_ascii=one).encode() for one in (False, True)]


def _values(client: Any, key: bytes) -> Iterator[bytes]:
    """Yield all that stands under a key, and its name."""
    yield key
    yield from _READ.get(client.type(key), _nothing)(client, key)


def _in_string(client: Any, key: bytes) -> Iterator[bytes]:
    yield client.get(key) or b""


def _in_list(client: Any, key: bytes) -> Iterator[bytes]:
    for start in range(0, client.llen(key), _VALUES_AT_ONCE):
        yield from client.lrange(key, start, start + _VALUES_AT_ONCE - 1)


def _in_hash(client: Any, key: bytes) -> Iterator[bytes]:
    for pair in client.hscan_iter(key, count=_VALUES_AT_ONCE):
        yield from pair


def _in_set(client: Any, key: bytes) -> Iterator[bytes]:
    yield from client.sscan_iter(key, count=_VALUES_AT_ONCE)


def _in_sorted_set(client: Any, key: bytes) -> Iterator[bytes]:
    for value, _ in client.zscan_iter(key, count=_VALUES_AT_ONCE):
        yield value


def _in_stream(client: Any, key: bytes) -> Iterator[bytes]:
    after: Any = b"-"
    while page := client.xrange(key, min=after, count=_VALUES_AT_ONCE):
        for _, said in page:
            for name, value in said.items():
                yield name
                yield value
        after = b"(" + page[-1][0]


def _nothing(_client: Any, _key: bytes) -> Iterator[bytes]:
    return iter(())


_READ: Mapping[bytes, Callable[[Any, bytes], Iterator[bytes]]] = MappingProxyType(
    {
        b"string": _in_string,
        b"list": _in_list,
        b"hash": _in_hash,
        b"set": _in_set,
        b"zset": _in_sorted_set,
        b"stream": _in_stream,
    }
)
