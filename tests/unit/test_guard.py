"""The tests keep to this machine."""

import os
import socket

import pytest

from tests.guard import KEYS


def test_a_connection_that_leaves_the_machine_is_refused_before_it_is_made() -> None:
    with socket.socket() as outside, pytest.raises(ConnectionRefusedError, match="may not connect"):
        outside.connect(("192.0.2.1", 443))


def test_no_test_has_a_key_of_a_vendor() -> None:
    assert [key for key in KEYS if os.environ.get(key)] == []
