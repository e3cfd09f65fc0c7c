"""What a database URL means: read once, for all that dial it, and never quoted."""

import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from turnmill.connections.postgres import Address, effective, read
from turnmill.domain.errors import InvalidSetting
from turnmill.store.database import Database, parse_url
from turnmill.store.dialing import connect_args


@pytest.fixture(autouse=True)
def _no_variables_of_libpq(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PGAPPNAME", "PGOPTIONS", "PGCONNECT_TIMEOUT", "PGSERVICE", "PGHOST", "PGPORT"):
        monkeypatch.delenv(name, raising=False)
    services = tmp_path / "services"
    services.write_text(
        "[mine]\nhost=db.test\nport=77\nuser=ada\nconnect_timeout=3\napplication_name=theirs\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(services))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://", ""),
        ("postgres://h", "host=h"),
        ("postgresql://u:p@h:1/d", "user=u password=p host=h port=1 dbname=d"),
        ("postgresql+psycopg://h/d", "host=h dbname=d"),
        ("postgresql://one,two/d", "host=one,two dbname=d"),
        ("postgresql://one:1,two:2/d", "host=one,two port=1,2 dbname=d"),
        ("postgresql://one,two:2/d", "host=one,two port=,2 dbname=d"),
        ("postgresql://[::1]:1,two/d", "host=::1,two port=1, dbname=d"),
        ("postgresql:///d?host=one,two&port=1,2", "host=one,two port=1,2 dbname=d"),
        ("postgresql:///d?host=one:1&host=two:2", "host=one,two port=1,2 dbname=d"),
        ("postgresql:///d?host=/run/db", "host=/run/db dbname=d"),
        ("postgresql://%2Frun%2Fdb:5/d", "host=/run/db port=5 dbname=d"),
        ("postgresql:///?service=mine", "service=mine"),
        ("postgresql://h/d?sslmode=verify-full", "host=h dbname=d sslmode=verify-full"),
        ("postgresql://u@srv:p@h/d", "user=u@srv password=p host=h dbname=d"),
        ("postgresql://u@h/d?application_name=a@b", "user=u host=h dbname=d application_name=a@b"),
        ("postgresql://h?options=-c%20a%3D1", "host=h options='-c a=1'"),
    ],
)
def test_a_url_is_read_as_libpq_reads_it(url: str, says: str) -> None:
    assert dict(read(url).keywords) == conninfo_to_dict(says)
    assert parse_url(url).drivername == "postgresql+psycopg"


_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(password=_TEXTS)
@example(password="p@ss:w/o?r#d%40&x=y")
def test_any_password_that_is_encoded_is_what_the_server_gets(password: str) -> None:
    url = f"postgresql://u:{quote(password, safe='')}@h:1,[::1]:2/d?sslmode=require"
    address = read(url)
    assert address.keywords["password"] == password
    assert conninfo_to_dict("", **dict(address.keywords))["password"] == password
    assert "password" not in repr(address)


@pytest.mark.parametrize(
    "password", ["a@b", "a:b/c#d", "100%", "a?b", "p@ss:w/o?r#d%", "ü ñ+&=", "a,b"]
)
def test_a_password_that_nobody_has_encoded_is_read_as_meant(password: str) -> None:
    found = read(f"postgresql://u:{password}@h:1/d?sslmode=require").keywords
    given = {"user": "u", "host": "h", "port": "1", "dbname": "d", "sslmode": "require"}
    assert found == {**given, "password": password}


SECRET = "sEcReT"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"postgresql://u:{SECRET}@h:x1/d", "cannot be understood"),
        (f"postgresql://u:{SECRET}@h/d?sslmod={SECRET}", "is sslmode meant"),
        (f"postgresql://u:a?{SECRET}=1@b=c@h/d?{SECRET}=x", "does not know"),
        (f"postgresql://h/d?sslmode={SECRET}", "is set for sslmode"),
        (f"postgresql://h/d?connect_timeout={SECRET}", "is set for connect_timeout"),
        (f"postgresql://h/d?keepalives_idle=1{SECRET}", "is set for keepalives_idle"),
        (f"postgresql://u:{SECRET}@one,two:1,2:3:4/d", "cannot be understood"),
        (
            f"postgresql://u:{SECRET}@h/d?prepare_threshold={SECRET}",
            "prepare_threshold is no number",
        ),
        (f"postgresql://u:{SECRET}@h:1,h:2/d?port=1,2,3", "libpq does not take"),
        (f"postgresql:///?service={SECRET}", "service of the database URL is not defined"),
        (f"postgresql://u:{SECRET}@one..two/d", "cannot be understood"),
        (f"postgresql://u:{SECRET}@{'x' * 64}/d", "cannot be understood"),
        (f"nix://u:{SECRET}@h/d", "no store for nix"),
        (f"u:{SECRET}@h/d", "cannot be understood"),
        (f"postgresql://u:{SECRET}@h/d\r", "line end"),
        (f" postgresql://u:{SECRET}@h/d", "white space"),
        (f"sqlite:///{SECRET}.db\r\n", "line end"),
        (f"sqlite://{SECRET}.db", "sqlite:///file.db"),
        (f"sqlite://u:{SECRET}@h/d", "names a host"),
        (f"sqlite:///{SECRET}%00.db", "cannot be understood"),
        (f"sqlite:///d?timeout={SECRET}", "a parameter"),
        (f"sqlite:///d?check_same_thread={SECRET}", "a parameter"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_quoting_any_of_it(
    url: str, says: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Database(url)
    assert says in f"{caught.value} {caught.value.hint}"
    assert SECRET not in f"{caught.value} {caught.value.hint}"
    assert SECRET not in "".join(traceback.format_exception_only(caught.value))


def test_what_the_service_and_the_environment_say_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    found = effective(read("postgresql:///d?service=mine"))
    given_there = ("host", "port", "user", "dbname", "sslmode")
    assert [found[name] for name in given_there] == ["db.test", "77", "ada", "d", "verify-ca"]


@pytest.mark.parametrize("said_by", ["the url", "the environment", "the service"])
def test_what_the_caller_says_wins_over_what_we_begin_with(
    monkeypatch: pytest.MonkeyPatch, said_by: str
) -> None:
    address = Address({"host": "h"})
    if said_by == "the url":
        address = read("postgresql://h/?connect_timeout=3&application_name=theirs")
    elif said_by == "the environment":
        monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
        monkeypatch.setenv("PGAPPNAME", "theirs")
    else:
        address = read("postgresql:///?service=mine")
    begins = connect_args(address)
    assert begins["connect_timeout"] == "3"
    # libpq's own way to have a name where nobody gives one
    assert begins["fallback_application_name"] == "turnmill"
    assert effective(address)["application_name"] == "theirs"


def test_options_of_the_environment_stand_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=5MB")
    options = connect_args(read("postgresql://h"))["options"]
    assert "-c statement_timeout=30s" in options
    assert options.index("statement_timeout") < options.index("work_mem=5MB")
    assert options.index("work_mem=5MB") < options.index("default_transaction_isolation")
