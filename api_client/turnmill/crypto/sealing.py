"""Sealing a value for one place of one table, and opening it there and nowhere else."""

import os
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from turnmill.crypto.envelope import BODY, PREFIX
from turnmill.domain.errors import SealBroken

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12
_TAG = 16
#: Of a data key: one half seals, the other makes hashes that nobody else can make.
SECRET_BYTES = 64


@dataclass(frozen=True, slots=True)
class DataKey:
    """A key of one user's, ready to be used."""

    id: str  #: 22 characters, known to nobody's name
    user: str = field(repr=False)
    scope: str  #: the caller's own key that wraps it; empty: a master key does
    version: int
    _cipher: "AESGCM" = field(repr=False)
    _hashes: bytes = field(repr=False)

    @classmethod
    def of(cls, key_id: str, user: str, scope: str, version: int, secret: bytes) -> "DataKey":
        """Return the key whose secret this is."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  an extra

        return cls(key_id, user, scope, version, AESGCM(secret[:32]), secret[32:])

    def seal(self, plain: bytes, *, table: str, place: str, column: str) -> str:
        """Return the value for this row and column."""
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, plain, self._about(table, place, column))
        return f"{PREFIX}{self.id}.{b2a_base64(sealed, newline=False).decode()}"

    def open(self, sealed: str, *, table: str, place: str, column: str) -> bytes:
        """Return what was sealed for this row and column; raises SealBroken for any other."""
        return self.opener(table, column)(sealed, place)

    def opener(self, table: str, column: str) -> Callable[[str, str], bytes]:
        """Return what opens values of one column, each by its place: for many of them."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415  an extra
        from pybase64 import b64decode  # noqa: PLC0415  a third of what opening costs, without

        decrypt, before = self._cipher.decrypt, f"{table}\0"
        behind = f"\0{column}\0{self.id}\0{self.version}"

        def opened(sealed: str, place: str) -> bytes:
            try:
                raw = b64decode(sealed[BODY:], validate=True)
                return decrypt(raw[:_NONCE], raw[_NONCE:], f"{before}{place}{behind}".encode())
            except (InvalidTag, ValueError):
                raise SealBroken(
                    f"{table}.{column}: the value was sealed for another place"
                ) from None

        return opened

    def seal_bytes(self, plain: bytes, *, about: bytes) -> bytes:
        """Return the same of bytes that stand elsewhere: a frame of a file."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, about + self.id.encode())

    def open_bytes(self, sealed: bytes, *, about: bytes) -> bytes:
        """Return what `seal_bytes` was given; raises SealBroken."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415  an extra

        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], about + self.id.encode())
        except (InvalidTag, ValueError):
            raise SealBroken("a frame was sealed for another place") from None

    def hashed(self, digest: bytes) -> bytes:
        """Return a hash that is this user's alone, and stays when his key is rotated."""
        import hmac  # noqa: PLC0415  as little as can be, where nothing is encrypted

        return hmac.digest(self._hashes, digest, sha256)

    def _about(self, table: str, place: str, column: str) -> bytes:
        return f"{table}\0{place}\0{column}\0{self.id}\0{self.version}".encode()


#: What sealing adds to a frame.
FRAME_OVERHEAD = _NONCE + _TAG
