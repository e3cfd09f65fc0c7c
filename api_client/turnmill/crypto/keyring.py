"""Master keys by version: the KMS that needs no service."""

import base64
import os
import re
import threading
from binascii import Error as NotBase64
from pathlib import Path
from typing import Any

from turnmill.domain.errors import DataKeyMissing, InvalidSetting
from turnmill.named_file import NamedFile

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY_BYTES = 32
_NONCE = 12
_HINT = "lines of VERSION:KEY, as `turnmill encryption init --out FILE` writes them"


class Keyring:
    """Master keys: those with a number are versions, the highest wraps; others are callers' own.

    A file is read anew whenever it has changed, so a key may be added, taken away and put back
    while processes run.
    """

    def __init__(self, source: str) -> None:
        """`source` is a file's path, or the lines themselves with commas between them.

        Raises InvalidSetting for what is neither.
        """
        self._path = None if _is_inline(source) else Path(source)
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] | None = None
        self._keys: dict[str, bytes] = parsed(source) if self._path is None else {}
        self._read()

    def current(self) -> str:
        """Return the highest version."""
        versions = [int(name) for name in self._read() if name.isdigit()]
        if not versions:
            raise DataKeyMissing("the keyring holds no master key")
        return str(max(versions))

    def versions(self) -> list[str]:
        """Return the names of all keys."""
        return sorted(self._read(), key=lambda name: (not name.isdigit(), name.zfill(64)))

    def wrap(self, name: str, secret: bytes, *, about: bytes) -> bytes:
        """Seal the secret under a master key."""
        nonce = os.urandom(_NONCE)
        sealed: bytes = self._cipher(name).encrypt(nonce, secret, about + name.encode())
        return nonce + sealed

    def unwrap(self, name: str, wrapped: bytes, *, about: bytes) -> bytes:
        """Open it again."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415  an extra

        cipher = self._cipher(name)
        try:
            found: bytes = cipher.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], about + name.encode())
        except (InvalidTag, ValueError):
            raise DataKeyMissing(
                f"master key {name} is another one than the one that wrapped this data key"
            ) from None
        return found

    def _cipher(self, name: str) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  an extra

        key = self._read().get(name)
        if key is None:
            raise DataKeyMissing(f"master key {name} is not in the keyring")
        return AESGCM(key)

    def _read(self) -> dict[str, bytes]:
        if self._path is None:
            return self._keys
        with self._lock:
            try:
                told = self._path.stat()
                stamp = (told.st_mtime_ns, told.st_size, told.st_ino)
                if stamp != self._stamp:
                    self._keys = parsed(self._path.read_text(encoding="utf-8"))
                    self._stamp = stamp
            except (OSError, UnicodeDecodeError):
                self._keys, self._stamp = {}, None  # taken away: whoever needs one is told
            return self._keys


def parsed(text: str) -> dict[str, bytes]:
    """Return keys by name; raises InvalidSetting, and quotes none."""
    keys: dict[str, bytes] = {}
    for line in re.split(r"[,\n]", text):
        name, colon, value = line.strip().partition(":")
        if not name or name.startswith("#"):
            continue
        try:
            key = base64.b64decode(value, validate=True)
        except (NotBase64, ValueError):
            key = b""
        if not colon or not _NAME.fullmatch(name) or len(key) != _KEY_BYTES or name in keys:
            raise InvalidSetting("TURNMILL_ENCRYPTION_KEYS cannot be understood", hint=_HINT)
        keys[name] = key
    return keys


def new_key(name: str) -> str:
    """Return a line with a fresh key."""
    return f"{name}:{base64.b64encode(os.urandom(_KEY_BYTES)).decode()}"


def write_keyring(path: Path, lines: list[str]) -> None:
    """Write the file, whole or not at all, for its owner only."""
    file = NamedFile(path)
    try:
        file.write("".join(f"{line}\n" for line in lines))
        file.finish()
    finally:
        file.close()


def _is_inline(source: str) -> bool:
    return bool(re.fullmatch(r"\s*[A-Za-z0-9._-]+:[A-Za-z0-9+/]{43}=.*", source, re.DOTALL))
