"""Keys and what they seal: each value opens in its place alone, and a missing key is loud."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.keyed import at_hand, in_a_file
from turnmill.crypto.data_keys import DataKeys
from turnmill.crypto.envelope import is_sealed
from turnmill.crypto.folder import FolderKeys
from turnmill.crypto.held import HeldKeys
from turnmill.crypto.key_store import ADMITTED, KeyStore, noted
from turnmill.crypto.keyring import Keyring, new_key, parsed
from turnmill.crypto.sealing import DataKey
from turnmill.crypto.wanted import KeyWanted, Owner
from turnmill.domain.errors import DataKeyMissing, InvalidSetting, SealBroken, UserErased
from turnmill.domain.ids import SessionId, TurnId, hash_of_user
from turnmill.domain.states import ErasureState
from turnmill.domain.streaming import Place, StreamKind
from turnmill.files.memory import Memory
from turnmill.files.sealed import FRAME, SealedFiles
from turnmill.new_ids import new_id
from turnmill.settings import Profile, Settings, unsafe_settings
from turnmill.store.database import Database
from turnmill.store.key_rows import RowKeys
from turnmill.store.opening import opened_claim
from turnmill.store.rules.sealing import Sealer
from turnmill.store.schema.key_tables import metadata
from turnmill.store.schema.secrecy import CONTENT, PLAIN, unmarked
from turnmill.streams.entries import Entry, opened, sealed

ADA, BOB = Owner("ada"), Owner("bob")
HERE = {"table": "messages", "place": "s/t/1", "column": "content"}


def test_every_column_of_text_or_json_is_told_to_be_content_or_plain() -> None:
    assert list(unmarked()) == []
    real = {table.name: set(table.c.keys()) for table in metadata.sorted_tables}
    assert {name: set(names) - real[name] for name, names in PLAIN.items()} == {
        name: set() for name in PLAIN
    }
    content = {(one.table.name, one.name) for one in CONTENT}
    assert not {(name, one) for name, names in PLAIN.items() for one in names} & content


@pytest.fixture
def key() -> DataKey:
    return at_hand().current(ADA)


def test_what_is_sealed_says_nothing_of_what_it_is(key: DataKey) -> None:
    once, again = (key.seal(b"CANARY", **HERE) for _ in range(2))
    assert is_sealed(once) and once != again
    assert "CANARY" not in once
    assert key.open(once, **HERE) == b"CANARY"


@pytest.mark.parametrize(
    "elsewhere", [{"table": "turns"}, {"place": "s/t/2"}, {"column": "settings"}]
)
def test_a_value_that_was_moved_is_refused_by_name(key: DataKey, elsewhere: dict[str, str]) -> None:
    value = key.seal(b"said", **HERE)
    there = HERE | elsewhere
    with pytest.raises(SealBroken, match=rf"{there['table']}\.{there['column']}"):
        key.open(value, **there)


def test_a_value_opens_by_no_other_key_nor_version(key: DataKey) -> None:
    keys = at_hand()
    value = keys.current(ADA).seal(b"said", **HERE)
    with pytest.raises(SealBroken):
        keys.current(BOB).open(value, **HERE)
    with pytest.raises(SealBroken):
        replace(keys.current(ADA), version=2).open(value, **HERE)
    changed = value[:-6] + ("AAAA" if value[-6:-2] != "AAAA" else "BBBB") + value[-2:]
    with pytest.raises(SealBroken):
        keys.current(ADA).open(changed, **HERE)


@pytest.mark.parametrize("text", ["1", "1:AAAA", "a b:" + "A" * 43 + "=", "1:x,1:y"])
def test_a_keyring_that_cannot_be_understood_is_refused_without_a_word_of_it(text: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        parsed(text)
    assert text not in str(refused.value)


def stores(tmp_path: Path) -> Iterator[tuple[str, Callable[[], KeyStore]]]:
    yield "held", HeldKeys
    yield "folder", lambda: FolderKeys(tmp_path / "keys")
    database = Database(f"sqlite:///{tmp_path / 'keys.db'}")
    yield "rows", lambda: RowKeys(database, apart=True)


@pytest.fixture(params=["held", "folder", "rows"])
def key_store(request: pytest.FixtureRequest, tmp_path: Path) -> KeyStore:
    return dict(stores(tmp_path))[request.param]()


def test_every_key_store_keeps_the_first_key_of_a_version(key_store: KeyStore) -> None:
    keyring = Keyring(new_key("1"))
    one, other = DataKeys(key_store, keyring), DataKeys(key_store, keyring)
    one.fetch(owners=[ADA, BOB])
    other.fetch(owners=[ADA])
    assert one.current(ADA).id == other.current(ADA).id
    assert {key.user for key in key_store.ls()} == {"ada", "bob"}
    assert [key.id for key in key_store.get(ids=[one.current(BOB).id])] == [one.current(BOB).id]


def test_a_forgotten_key_is_gone_for_everybody_and_others_stay(key_store: KeyStore) -> None:
    keyring = Keyring(new_key("1"))
    keys = DataKeys(key_store, keyring)
    keys.fetch(owners=[ADA, BOB])
    theirs = {owner: keys.current(owner).id for owner in (ADA, BOB)}
    keys.rotate(ADA)
    forgotten = keys.forget("ada")
    assert (forgotten.keys, forgotten.backups) == (2, "shredded")
    assert keys.forget("ada").keys == 0
    fresh = DataKeys(key_store, keyring)
    with pytest.raises(DataKeyMissing):
        fresh.fetch(ids=[theirs[ADA]])
    fresh.fetch(ids=[theirs[BOB]])
    with pytest.raises(KeyWanted):
        keys.key(theirs[ADA])


def test_the_bytes_of_a_forgotten_key_are_written_over_where_they_lay(tmp_path: Path) -> None:
    keys = DataKeys(FolderKeys(tmp_path / "keys"), Keyring(new_key("1")))
    keys.fetch(owners=[ADA])
    wrapped = b64encode(next(keys.store.ls()).wrapped)
    (file,) = (path for path in (tmp_path / "keys").iterdir() if wrapped in path.read_bytes())
    (tmp_path / "the same").hardlink_to(file)  # what a disk has of a file whose name is gone
    keys.forget("ada")
    assert not file.exists()
    assert wrapped not in (tmp_path / "the same").read_bytes()


def test_erasures_are_noted_where_a_restored_backup_does_not_undo_them(key_store: KeyStore) -> None:
    key_store.note_erasure("one", "{}")
    key_store.note_erasure("one", '{"again": true}')
    assert list(key_store.erasures()) == [("one", '{"again": true}')]


def test_who_was_erased_has_no_key_however_late_somebody_makes_one(key_store: KeyStore) -> None:
    late = DataKeys(key_store, Keyring(new_key("1")))
    late.fetch(owners=[ADA, BOB])
    late.drop()  # a process that stands still here, and goes on after the erasure
    key_store.note_erasure(hash_of_user("ada"), noted(ErasureState.ERASED))
    key_store.forget("ada")
    late.fetch(owners=[ADA, BOB])
    with pytest.raises(UserErased):
        late.current(ADA)
    late.rotate(ADA)
    assert late.current(BOB).user == "bob"
    assert {one.user for one in key_store.ls()} == {"bob"}
    key_store.note_erasure(hash_of_user("ada"), ADMITTED)
    late.fetch(owners=[ADA])
    assert late.current(ADA).user == "ada"


def test_keys_that_are_dropped_are_gone_and_others_of_the_user_stay(key_store: KeyStore) -> None:
    keys = DataKeys(key_store, Keyring(new_key("1")))
    keys.fetch(owners=[ADA, BOB])
    keys.rotate(ADA)
    old = next(one for one in key_store.get(users=["ada"]) if one.version == 1)
    assert key_store.drop([old.id]) == 1
    assert key_store.drop([old.id]) == 0
    assert [one.version for one in key_store.get(users=["ada"])] == [2]
    assert len(key_store.get(users=["bob"])) == 1
    assert key_store.get(ids=[old.id]) == []


def test_a_rotated_key_opens_what_it_has_sealed_and_hashes_stay(key_store: KeyStore) -> None:
    keys = DataKeys(key_store, Keyring(new_key("1")))
    keys.fetch(owners=[ADA])
    before = keys.current(ADA)
    value, digest = before.seal(b"said", **HERE), before.hashed(b"content")
    keys.rotate(ADA)
    keys.drop()
    keys.fetch(owners=[ADA], ids=[before.id])
    after = keys.current(ADA)
    assert (after.version, before.version) == (2, 1) and after.id != before.id
    assert keys.key(before.id).open(value, **HERE) == b"said"
    assert after.hashed(b"content") == digest


def test_after_a_rewrap_the_old_master_key_may_be_taken_away(
    key_store: KeyStore, tmp_path: Path
) -> None:
    path = tmp_path / "keyring"
    keyring = in_a_file(path, "1")
    keys = DataKeys(key_store, keyring)
    keys.fetch(owners=[ADA])
    key_id = keys.current(ADA).id
    path.write_text(path.read_text() + new_key("2") + "\n")
    assert [keys.rewrap(one) for one in list(key_store.ls())] == [True]
    assert [keys.rewrap(one) for one in list(key_store.ls())] == [False]
    path.write_text(path.read_text().splitlines()[1] + "\n")
    keys.drop()
    keys.fetch(ids=[key_id])
    assert keys.key(key_id).user == "ada"


def test_a_master_key_that_is_taken_away_is_missed_by_name_and_found_when_it_is_back(
    tmp_path: Path,
) -> None:
    path = tmp_path / "keyring"
    keys = DataKeys(HeldKeys(), in_a_file(path, "1"))
    keys.fetch(owners=[ADA])
    kept = path.read_text()
    for instead in ("", new_key("1") + "\n", new_key("2") + "\n"):
        path.write_text(instead)
        keys.drop()
        with pytest.raises(DataKeyMissing):
            keys.fetch(owners=[ADA])
    path.unlink()
    with pytest.raises(DataKeyMissing):
        keys.fetch(owners=[ADA])
    path.write_text(kept)
    keys.fetch(owners=[ADA])
    assert keys.current(ADA).user == "ada"


def test_one_missing_key_keeps_no_other_from_being_held(tmp_path: Path) -> None:
    store, path = HeldKeys(), tmp_path / "keyring"
    keys = DataKeys(store, in_a_file(path, "1", "acme"))
    theirs = Owner("ada", "acme")
    keys.fetch(owners=[theirs, BOB])
    path.write_text(path.read_text().splitlines()[0] + "\n")
    keys.drop()
    with pytest.raises(DataKeyMissing, match="acme"):
        keys.fetch(owners=[theirs, BOB])
    assert keys.current(BOB).user == "bob"
    with pytest.raises(DataKeyMissing, match="acme"):
        keys.current(theirs)  # and it is not looked for again at once


# Files.

KEY = f"{'a' * 64}/{'b' * 32}"


def files_of(keys: DataKeys, below: Memory) -> SealedFiles:
    keys._folders["a" * 64] = ADA
    return SealedFiles(below, keys)


@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME + 5])
def test_a_sealed_file_reads_as_it_was_written_from_wherever_one_begins(size: int) -> None:
    below, content = Memory(), bytes(n % 251 for n in range(size))
    files = files_of(at_hand(), below)
    files.put(KEY, iter([content[:7], content[7:]]))
    for start in {0, 1, FRAME - 1, FRAME, FRAME + 3, size} & set(range(size + 1)):
        assert b"".join(files.chunks(KEY, start=start)) == content[start:]
    assert files.size(KEY) == size
    assert content[:64] not in b"".join(below.chunks(KEY)) or size < 64


def test_files_of_before_are_read_as_they_are() -> None:
    below = Memory()
    below.put(KEY, iter([b"plain " * 9000]))
    files = files_of(at_hand(), below)
    assert b"".join(files.chunks(KEY, start=3)) == (b"plain " * 9000)[3:]
    assert files.size(KEY) == 54_000


def test_a_file_that_was_cut_swapped_or_moved_is_refused() -> None:
    below, keys = Memory(), at_hand()
    files = files_of(keys, below)
    files.put(KEY, iter([b"x" * (2 * FRAME)]))
    raw = b"".join(below.chunks(KEY))
    frame = FRAME + 28
    head = len(raw) - 2 * frame
    first, second = raw[head : head + frame], raw[head + frame :]
    for changed in (raw[: head + frame], raw[:head] + second + first, raw[:-1]):
        below.put(KEY, iter([changed]))
        with pytest.raises(SealBroken):
            list(files.chunks(KEY))
    other = f"{'a' * 64}/{'c' * 32}"
    below.put(other, iter([raw]))
    with pytest.raises(SealBroken):
        list(files.chunks(other))


def test_a_sealed_file_is_refused_where_no_keys_are() -> None:
    below = Memory()
    files_of(at_hand(), below).put(KEY, iter([b"said"]))
    with pytest.raises(DataKeyMissing):
        list(SealedFiles(below, None).chunks(KEY))


# Streams.


def test_an_entry_of_a_stream_opens_in_its_place_alone() -> None:
    keys, turn_id, other = at_hand(), TurnId(new_id()), TurnId(new_id())
    entry = Entry(Place(3, 1), StreamKind.DELTA, "CANARY ü")
    there = sealed(entry, turn_id, keys.current(ADA))
    assert "CANARY" not in there.said
    assert opened(there, turn_id, keys) == entry
    with pytest.raises(SealBroken):
        opened(there, other, keys)
    with pytest.raises(SealBroken):
        opened(there._replace(place=Place(3, 2)), turn_id, keys)
    with pytest.raises(DataKeyMissing):
        opened(there, turn_id, None)


# Settings.


def test_production_wants_content_encrypted_or_that_declined_by_name() -> None:
    def refused(**said: str) -> list[str]:
        settings = Settings(profile=Profile.PRODUCTION, **said)  # type: ignore[arg-type]
        return [str(one) for one in unsafe_settings(settings, {}) if "stored as it is" in str(one)]

    assert len(refused()) == 1
    assert refused(encryption="off") == refused(encryption_keys="/keys") == []
    assert refused(kms="a:b") == []


def test_encryption_is_what_the_environment_says() -> None:
    env = {"TURNMILL_ENCRYPTION_KEYS": new_key("1"), "TURNMILL_KEY_BACKUP_DAYS": "7"}
    settings = Settings.from_env(env)
    assert settings.is_encrypted and settings.key_backups is not None
    assert env["TURNMILL_ENCRYPTION_KEYS"] not in repr(settings)
    assert not Settings.from_env(env | {"TURNMILL_ENCRYPTION": "off"}).is_encrypted
    with pytest.raises(InvalidSetting, match="TURNMILL_ENCRYPTION"):
        Settings.from_env({"TURNMILL_ENCRYPTION": "perhaps"})


@pytest.mark.parametrize("owner", [ADA, Owner("ada", "acme")])
def test_whose_a_session_is_is_known_from_what_a_claim_opened_and_from_nothing_plain(
    owner: Owner,
) -> None:
    keys = at_hand(f"{new_key('1')}\n{new_key('acme')}")
    session, turn = SessionId(new_id()), TurnId(new_id())
    said = [{"type": "text", "text": "hello"}]
    opened_claim(keys, (turn, session), "ada", (None, [["user", said, 0]], "[]"))
    assert keys.owner_of(session) is None
    row = {"position": 0, "content": said}
    Sealer({session: keys.current(owner)}, keys).messages(session, turn, [row])
    brought = (None, [["user", row["content"], 0]], "[]")
    with pytest.raises(SealBroken):
        opened_claim(keys, (TurnId(new_id()), session), "ada", brought)
    assert keys.owner_of(session) is None
    opened_claim(keys, (turn, session), "ada", brought)
    assert keys.owner_of(session) == owner
