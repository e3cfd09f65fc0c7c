"""Whatever way a word is written in a Redis, it is found there."""

import json

import pytest

from turnmill.verbs.users.looking_in_redis import _told

WORD = 'Grüße, "漢字"'


@pytest.mark.parametrize(
    "value",
    [
        f"before {WORD} behind".encode(),
        json.dumps({"text": f"before {WORD} behind"}).encode(),
        json.dumps({"text": f"before {WORD} behind"}, ensure_ascii=False).encode(),
    ],
)
def test_a_word_is_found_as_it_is_and_as_json_has_it(value: bytes) -> None:
    assert _told([b"a key", value], "ada", [WORD]) == {"word"}
    assert _told([b"a key", value], "ada", ["another"]) == set()


def test_a_users_id_is_found_as_a_value_of_its_own_alone() -> None:
    assert _told([b"ada", b"x"], "ada", []) == {"id"}
    assert _told([b'{"user": "ada"}'], "ada", []) == {"id"}
    assert _told([b"adamant"], "ada", []) == set()


def test_what_is_encrypted_is_told_apart_from_what_was_looked_at() -> None:
    assert _told([b"a key", b"tm1.key.sealed"], "ada", [WORD]) == {"sealed"}
    assert _told([b"a key", b"tm1.key.sealed"], "ada", []) == set()
