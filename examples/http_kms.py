"""A key management service behind HTTP, as TURNMILL_KMS=examples.http_kms:HttpKms.

It wraps and unwraps by a name of a key; the key itself never leaves it. The requests are those of
the transit engine of HashiCorp Vault and OpenBao: KMS_URL is its address, KMS_TOKEN lets us in, and
KMS_KEY is the key that wraps now.
"""

import json
import os
from base64 import b64decode, b64encode
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from turnmill import DataKeyMissing

TIMEOUT_SECONDS = 2.0


class HttpKms:
    """Has data keys wrapped by a service."""

    def __init__(self) -> None:
        self._url = os.environ["KMS_URL"].rstrip("/")
        self._token = os.environ["KMS_TOKEN"]

    def current(self) -> str:
        """Return the name of the key that wraps now."""
        return os.environ["KMS_KEY"]

    def wrap(self, name: str, secret: bytes, *, about: bytes) -> bytes:
        """Return the secret as only the service opens it."""
        found = self._ask("encrypt", name, plaintext=_text(secret), associated_data=_text(about))
        return str(found["ciphertext"]).encode()

    def unwrap(self, name: str, wrapped: bytes, *, about: bytes) -> bytes:
        """Return the secret again."""
        found = self._ask(
            "decrypt", name, ciphertext=wrapped.decode(), associated_data=_text(about)
        )
        return b64decode(found["plaintext"])

    def _ask(self, verb: str, name: str, **said: str) -> dict[str, Any]:
        request = Request(
            f"{self._url}/v1/transit/{verb}/{name}",
            data=json.dumps(said).encode(),
            headers={"X-Vault-Token": self._token, "Content-Type": "application/json"},
        )
        try:
            with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                found: dict[str, Any] = json.load(answer)["data"]
        except (HTTPError, URLError, OSError, ValueError, KeyError) as error:
            raise DataKeyMissing(f"the service does not {verb}: {type(error).__name__}") from None
        return found


def _text(said: bytes) -> str:
    return b64encode(said).decode()
