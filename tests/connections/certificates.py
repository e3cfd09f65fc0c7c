"""An authority of our own and a certificate that it signed, by the openssl command."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files of PEM."""

    authority: Path  #: what a client trusts
    certificate: Path  #: of 127.0.0.1 and localhost
    key: Path
    elsewhere: Path  #: signed as well, of another host
    elsewhere_key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make all of them; skips the test where there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command, to make certificates")
    _openssl(
        *("req", "-x509", *_EC, "-subj", "/CN=tests"),
        *("-out", str(folder / "authority.pem"), "-keyout", str(folder / "authority.key")),
    )
    _sign(folder, "here", "DNS:localhost,IP:127.0.0.1")
    _sign(folder, "elsewhere", "DNS:redis.example.com")
    return Certificates(
        folder / "authority.pem",
        folder / "here.pem",
        folder / "here.key",
        folder / "elsewhere.pem",
        folder / "elsewhere.key",
    )


def _sign(folder: Path, name: str, names: str) -> None:
    _openssl(
        *("req", "-x509", *_EC, "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"),
        *("-addext", "basicConstraints=CA:FALSE"),
        *("-CA", str(folder / "authority.pem"), "-CAkey", str(folder / "authority.key")),
        *("-out", str(folder / f"{name}.pem"), "-keyout", str(folder / f"{name}.key")),
    )


def _openssl(*arguments: str) -> None:
    subprocess.run(("openssl", *arguments), check=True, capture_output=True, timeout=30)
