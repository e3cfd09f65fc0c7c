"""Ways to a Postgres: every version, TLS, a socket, several hosts, passwords of odd characters."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg import sql

from tests import steps
from tests.chaos.system import Servers
from tests.conftest import make_home
from tests.connections import journey
from tests.connections.certificates import make_certificates
from tests.connections.servers import ChosenPostgres
from tests.connections.versions import MAJORS, has_tls, program_of, version_of
from turnmill.domain.errors import StoreError, StoreUnavailable
from turnmill.listening.thread import listen
from turnmill.store.async_database import AsyncDatabase
from turnmill.store.database import Database
from turnmill_worker.stack import account
from turnmill_worker.stack.ports import LOOPBACK, choose
from turnmill_worker.stack.valkey import EmbeddedValkey

pytestmark = pytest.mark.anyio

Row = Callable[[str], None]


def parts_of(url: str) -> tuple[str, int, str]:
    """Return login, port and path of a URL."""
    parts = urlsplit(url)
    assert parts.port is not None
    return parts.netloc.rpartition("@")[0], parts.port, parts.path


@contextmanager
def opened(url: str) -> Iterator[Database]:
    store = Database(url, pool_size=1, overflow=0)
    yield store
    store.close()


def give_to_postgres(path: Path) -> Path:
    """Have a file or folder belong to whom Postgres runs as, and to nobody else."""
    owner = account.for_postgres()
    if owner is not None:
        os.chown(path, owner.uid, owner.gid)
    path.chmod(0o700 if path.is_dir() else 0o600)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("major", MAJORS)
def test_everything_works_on_every_version_that_is_promised(
    valkey_server: EmbeddedValkey, tmp_path: Path, major: int, row: Row
) -> None:
    row(f"PostgreSQL {major}")
    program = program_of(major)
    if program is None:
        pytest.skip(f"no program of PostgreSQL {major} is on this machine")
    row(f"PostgreSQL {version_of(program)}")
    home = make_home()
    with ChosenPostgres(home.path, program=program) as postgres:
        journey.make(Servers(home, postgres, valkey_server), tmp_path)
    home.discard()


@pytest.fixture(scope="module")
def other_postgres(
    valkey_server: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Servers, Path]]:
    """Yield servers with TLS and a socket in the Postgres, and the file of its authority."""
    programs = [found for major in reversed(MAJORS) if (found := program_of(major)) is not None]
    program = next((one for one in programs if has_tls(one)), None)
    if program is None:
        pytest.skip("no Postgres that was built with TLS is on this machine")
    home = make_home()
    files = make_certificates(tmp_path_factory.mktemp("certificates"))
    sockets = give_to_postgres(home.folder("sockets"))
    sockets.chmod(0o711)
    used = [shutil.copy(one, home.path / one.name) for one in (files.certificate, files.key)]
    certificate, key = (give_to_postgres(Path(one)) for one in used)
    settings = {
        "ssl": "on",
        "ssl_cert_file": str(certificate),
        "ssl_key_file": str(key),
        "unix_socket_directories": str(sockets),
    }
    with ChosenPostgres(home.path, program=program, settings=settings) as postgres:
        yield Servers(home, postgres, valkey_server), files.authority
    home.discard()


@pytest.mark.slow
def test_everything_works_over_tls_with_the_certificate_verified(
    other_postgres: tuple[Servers, Path], tmp_path: Path, row: Row
) -> None:
    row("PostgreSQL, TLS with `sslmode=verify-full`")
    servers, authority = other_postgres
    verified = f"?sslmode=verify-full&sslrootcert={authority}"
    journey.make(servers, tmp_path, way=lambda url: url + verified)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ("?sslmode=verify-full&sslrootcert=system", "certificate"),
        ("?sslmode=verify-full&sslrootcert=/nowhere/at/all", "certificate"),
        ("?target_session_attrs=standby", "target"),
    ],
)
def test_a_server_that_is_not_the_one_that_is_asked_for_is_refused_with_the_reason(
    other_postgres: tuple[Servers, Path], parameters: str, reason: str
) -> None:
    servers, _ = other_postgres
    with opened(servers.postgres.url + parameters) as store:
        with pytest.raises(StoreUnavailable) as caught:
            steps.count_turns(store)
        assert (caught.value.reason, bool(caught.value.hint)) == (reason, True)


@pytest.mark.slow
def test_everything_works_over_a_socket(
    other_postgres: tuple[Servers, Path], tmp_path: Path, row: Row
) -> None:
    row("PostgreSQL, a Unix socket")
    servers, _ = other_postgres
    sockets = quote(str(servers.home.path / "sockets"), safe="")

    def by_socket(url: str) -> str:
        login, port, path = parts_of(url)
        return f"postgresql://{login}@{sockets}:{port}{path}"

    journey.make(servers, tmp_path, way=by_socket)


@pytest.mark.slow
def test_everything_works_where_the_first_of_several_hosts_is_down(
    servers: Servers, tmp_path: Path, row: Row
) -> None:
    row("PostgreSQL, several hosts, the first one down")

    def by_several(url: str) -> str:
        login, port, path = parts_of(url)
        hosts = f"{LOOPBACK}:{choose(0)},{LOOPBACK}:{port}"
        return f"postgresql://{login}@{hosts}{path}?target_session_attrs=read-write"

    journey.make(servers, tmp_path, way=by_several)


async def test_the_one_of_several_hosts_that_answers_is_found_and_listened_to(
    database_url: str,
) -> None:
    login, port, path = parts_of(database_url)
    hosts = f"{LOOPBACK}:{choose(0)},{LOOPBACK}:{port}"
    url = f"postgresql://{login}@{hosts}{path}?target_session_attrs=read-write"
    with opened(url) as store, listen(store, ["told"]) as listener:
        store.run(lambda conn: conn.exec_driver_sql("NOTIFY told, 'one'"))
        assert listener.hear(5.0)[0].channel == "told"
    concurrent = AsyncDatabase(url)
    assert await concurrent.run_single(lambda conn: conn.exec_driver_sql("SELECT 1").scalar()) == 1
    await concurrent.close()


ODD = ["p@ss:w/o?r#d%", "ü ñ+&=;", "%41", "a,b'\"\\", "[::1]"]


@pytest.fixture
def of_role(database_url: str) -> Iterator[Callable[[str], str]]:
    """Return what gives a role a password, and returns a URL with a password in it."""
    _, port, path = parts_of(database_url)
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("CREATE ROLE odd LOGIN SUPERUSER")

        def give(password: str) -> str:
            admin.execute(sql.SQL("ALTER ROLE odd PASSWORD {}").format(sql.Literal(password)))
            return f"postgresql://odd:{quote(password, safe='')}@{LOOPBACK}:{port}{path}"

        yield give
        admin.execute("DROP ROLE odd")


@pytest.mark.parametrize("password", ODD)
async def test_a_password_of_odd_characters_opens_the_door_and_is_never_told(
    of_role: Callable[[str], str], password: str
) -> None:
    url = of_role(password)
    with opened(url) as store:
        assert steps.count_turns(store) == 0
    concurrent = AsyncDatabase(url)
    assert await concurrent.run_single(lambda conn: conn.exec_driver_sql("SELECT 1").scalar()) == 1
    await concurrent.close()
    of_role("changed meanwhile")
    with opened(url) as store, pytest.raises(StoreError) as caught:
        steps.count_turns(store)
    told = f"{caught.value} {caught.value.hint} {caught.value!r} {store.url!r}"
    assert caught.value.reason == "password"
    assert all(part not in told for part in (password, quote(password, safe="")))


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("{host}:{closed}", "refused"),
        ("nobody.invalid:{port}", "unresolvable"),
        ("nobody.invalid,{host}:{closed}", "refused"),
        ("%2Fnowhere:{port}", "refused"),
        ("{host}:99999", "url"),
    ],
)
async def test_a_place_where_nobody_answers_is_named_for_what_it_is(
    database_url: str, place: str, reason: str
) -> None:
    login, port, path = parts_of(database_url)
    where = place.format(host=LOOPBACK, port=port, closed=choose(0))
    url = f"postgresql://{login}@{where}{path}"
    with opened(url) as store, pytest.raises(StoreError) as caught:
        steps.count_turns(store)
    concurrent = AsyncDatabase(url)
    with pytest.raises(StoreError) as told:
        await concurrent.run_single(lambda conn: conn.exec_driver_sql("SELECT 1"))
    await concurrent.close()
    assert caught.value.reason == told.value.reason == reason


def test_what_the_caller_sets_is_what_the_server_sees(database_url: str) -> None:
    asked = "?application_name=ours&options=-c%20work_mem%3D5MB"
    shown = "SELECT current_setting('application_name'), current_setting('work_mem')"
    with ExitStack() as stack:
        usual, given = (
            stack.enter_context(stack.enter_context(opened(database_url + more)).single())
            for more in ("", asked)
        )
        assert usual.exec_driver_sql(shown).one()[0] == "turnmill"
        assert tuple(given.exec_driver_sql(shown).one()) == ("ours", "5MB")
