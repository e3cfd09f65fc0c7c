"""Which keys a process has: what TURNMILL_ENCRYPTION_KEYS and its like mean."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from turnmill.domain.errors import InvalidSetting, MissingExtra
from turnmill.settings import Settings
from turnmill.store.database import Database, parse_url

if TYPE_CHECKING:
    from turnmill.crypto.data_keys import DataKeys
    from turnmill.crypto.key_store import KeyStore
    from turnmill.crypto.kms import Kms

#: Where wrapped data keys stand in a database of their own.
KEY_SCHEMA = "turnmill_keys"
#: The key store in TURNMILL_KEY_STORE that is the database of conversations.
SAME = "database"


def keys_for(settings: Settings) -> "DataKeys | None":
    """Return the keys that content is sealed by, for all databases of a process.

    None: nothing is encrypted.

    Connects to nothing yet. Raises InvalidSetting, or MissingExtra.
    """
    if not settings.is_encrypted:
        return None
    if find_spec("cryptography") is None or find_spec("pybase64") is None:
        raise MissingExtra("encryption needs an extra", hint="pip install 'turnmill[encryption]'")
    from turnmill.crypto.data_keys import DataKeys  # noqa: PLC0415  not everybody encrypts

    found = DataKeys(key_store(settings), kms(settings))
    if settings.encrypt_metadata:
        found.plain_metadata = frozenset({*settings.tags, settings.analytics_tag} - {""})
    found.seals_settings = settings.encrypt_settings
    return found


def kms(settings: Settings) -> "Kms":
    """Return who wraps data keys."""
    from turnmill.crypto.keyring import Keyring  # noqa: PLC0415  not everybody encrypts

    if not settings.kms:
        if not settings.encryption_keys:
            raise InvalidSetting(
                "TURNMILL_ENCRYPTION is on, and no keys are named",
                hint="TURNMILL_ENCRYPTION_KEYS: `turnmill encryption init --out FILE` writes some",
            )
        return Keyring(settings.encryption_keys)
    module, _, name = settings.kms.partition(":")
    try:
        found: Kms = getattr(import_module(module), name)()
    except (ImportError, AttributeError, ValueError, TypeError):
        raise InvalidSetting(
            "TURNMILL_KMS cannot be loaded", hint="module:name, which is called without arguments"
        ) from None
    return found


def key_store(settings: Settings) -> "KeyStore":
    """Return where wrapped data keys stand."""
    from turnmill.crypto.folder import FolderKeys  # noqa: PLC0415  as above
    from turnmill.crypto.held import HeldKeys  # noqa: PLC0415
    from turnmill.store.key_rows import RowKeys  # noqa: PLC0415

    url, keeps = settings.key_store, settings.key_backups
    is_server = settings.database_url.startswith("postgres")
    if url == SAME and not is_server:
        raise InvalidSetting(
            "TURNMILL_KEY_STORE cannot be this file", hint="a folder: SQLite has one writer"
        )
    if url == SAME or (not url and is_server):
        ours = Database(settings.database_url, schema=settings.schema, pool_size=2, overflow=4)
        return RowKeys(ours, apart=False, makes_tables=False)
    if not url:
        # Of a store in memory nothing is left when the process ends; neither is of its keys.
        lasting = urlsplit(settings.database_url).path not in ("", "/")
        return FolderKeys((settings.home / "keys").absolute()) if lasting else HeldKeys()
    parts = urlsplit(url)
    if parts.scheme.startswith("postgres"):
        theirs = Database(url, schema=KEY_SCHEMA, pool_size=2, overflow=4)
        return RowKeys(theirs, apart=not _is_same(theirs, settings), keeps=keeps)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return FolderKeys(Path(unquote(parts.path)), keeps=keeps)
    if "://" not in url:
        return FolderKeys(Path(url).absolute(), keeps=keeps)
    raise InvalidSetting(
        "TURNMILL_KEY_STORE cannot be understood",
        hint="a folder, postgresql:// of another database, or `database`",
    )


def _is_same(keys: Database, settings: Settings) -> bool:
    """Tell whether keys would stand in the very database that conversations are dumped from."""
    ours = parse_url(settings.database_url)
    theirs = keys.url
    return (theirs.host, theirs.port, theirs.database) == (ours.host, ours.port, ours.database)
