"""Who wraps data keys: the seam for a key management service, and the keyring that ships."""

from typing import Protocol


class Kms(Protocol):
    """Wraps the secrets of data keys under keys that it alone has. Its verbs block.

    Each may be called from any thread, and has to end by itself within seconds: reading and writing
    of rows waits for it. A service of your own is named by TURNMILL_KMS as
    `module:name`, which is called without arguments; `examples/http_kms.py` is one.
    """

    def current(self) -> str:
        """Return the name of the key that wraps now; raises DataKeyMissing where there is none."""
        ...

    def wrap(self, name: str, secret: bytes, *, about: bytes) -> bytes:
        """Return the secret as only `unwrap` with the same name and `about` opens it.

        Raises DataKeyMissing where the key is not there, or the service cannot be reached.
        """
        ...

    def unwrap(self, name: str, wrapped: bytes, *, about: bytes) -> bytes:
        """Return the secret again; raises DataKeyMissing where the key is gone, or another."""
        ...
