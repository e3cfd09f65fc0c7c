"""Buckets of S3, or of what speaks as it does, as a file store: behind obstore.

obstore's runtime does not survive a fork: whoever forks uses it in the children alone.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from turnmill.connections.rules import BUCKETS
from turnmill.domain.errors import FilesUnavailable, InvalidSetting, MissingExtra
from turnmill.files.port import CHUNK, MissingBytes, Stored

#: Of one part of a larger upload, and of how many are on their way at once.
_PART = 8 * 2**20
_AT_ONCE = 1

#: What the library reads of the environment about connections, as long as it is told nothing.
_OPTIONS = (
    *("allow_http", "allow_invalid_certificates", "connect_timeout", "timeout"),
    *("proxy_ca_certificate", "proxy_excludes", "proxy_url"),
)


class Objects:
    """Objects in one bucket, below the path that its URL has."""

    def __init__(self, url: str) -> None:
        """Raises MissingExtra without obstore, or InvalidSetting for a URL it cannot read."""
        try:
            import obstore  # noqa: PLC0415  an extra
            from obstore.store import from_url  # noqa: PLC0415
        except ImportError:
            raise MissingExtra(
                "a bucket needs obstore", hint="pip install 'turnmill[s3]'"
            ) from None
        self._api: Any = obstore
        options: Any = client_options(url)
        try:
            self._store: Any = from_url(url, client_options=options)
        except Exception:  # noqa: BLE001
            # The edge to the library, whose words may hold a key.
            raise InvalidSetting(
                "TURNMILL_FILES_URL cannot be understood", hint="s3://bucket/path, or a folder"
            ) from None

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        """Keep the bytes: an upload that is not finished leaves none."""
        failed: list[BaseException] = []
        with _as_ours(failed):
            self._api.put(
                self._store,
                key,
                _noting(chunks, failed),
                use_multipart=True,
                chunk_size=_PART,
                max_concurrency=_AT_ONCE,
            )

    def chunks(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """Yield the bytes from `start` on."""
        with _as_ours():
            options = {"range": {"offset": start}} if start else None
            stream = iter(self._api.get(self._store, key, options=options).stream(CHUNK))
        while True:
            with _as_ours():
                piece = bytes(next(stream, b""))
            if not piece:
                return
            for at in range(0, len(piece), CHUNK):
                yield piece[at : at + CHUNK]

    def size(self, key: str) -> int | None:
        """Return how many bytes there are."""
        try:
            with _as_ours():
                return int(self._api.head(self._store, key)["size"])
        except MissingBytes:
            return None

    def delete(self, key: str) -> None:
        """Delete the bytes."""
        try:
            with _as_ours():
                self._api.delete(self._store, key)
        except MissingBytes:
            return

    def keys(self, prefix: str = "") -> Iterator[Stored]:
        """Yield what lies there."""
        with _as_ours():
            pages = iter(self._api.list(self._store, prefix or None, chunk_size=1000))
        while True:
            with _as_ours():
                page = next(pages, None)
            if page is None:
                return
            for one in page:
                yield Stored(one["path"], one["size"], one["last_modified"])


def _noting(chunks: Iterable[bytes], failed: list[BaseException]) -> Iterator[bytes]:
    """Yield the chunks, and note what iterating raises: the library makes its own of it."""
    try:
        yield from chunks
    except BaseException as error:
        failed.append(error)
        raise


@contextmanager
def _as_ours(failed: list[BaseException] | None = None) -> Iterator[None]:
    """Turn what the library says into an error of ours, without its words."""
    try:
        yield
    except FileNotFoundError:
        raise MissingBytes() from None
    except Exception as error:  # noqa: BLE001
        # The edge to the library: its errors quote URLs and answers.
        if failed:
            raise failed[0] from None
        raise FilesUnavailable(f"the bucket of files: {type(error).__name__}") from None


def client_options(url: str) -> dict[str, str]:
    """Return how a bucket is called: within a time of ours, and as the environment says.

    A server of one's own may be reached without TLS (`AWS_ALLOW_HTTP`), or by a proxy.
    """
    prefix = BUCKETS.get(url.partition(":")[0].lower(), "")
    told = {one: os.environ.get(f"{prefix}_{one.upper()}", "") for one in _OPTIONS if prefix}
    return {"timeout": "60s"} | {one: value for one, value in told.items() if value}
