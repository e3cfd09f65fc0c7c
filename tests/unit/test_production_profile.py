"""The production profile judges servers as they would really be dialled, and names the setting."""

from pathlib import Path

import pytest

from turnmill import Client
from turnmill.connections.rules import RULES
from turnmill.domain.errors import InvalidSetting, UnsafeSetting
from turnmill.settings import Profile, Settings

DATABASE, BROKER = "TURNMILL_DATABASE_URL", "TURNMILL_BROKER_URL"
LISTEN = "TURNMILL_LISTEN_URL"
NO_TLS, UNVERIFIED = "without TLS", "does not verify"
NO_PASSWORD, GUESSED = "no password", "everybody tries first"
SECRET = "k9-3f71"


def read(**variables: str) -> Settings:
    return Settings.from_env(
        {"TURNMILL_PROFILE": "production", "TURNMILL_ENCRYPTION": "off"} | variables
    )


REFUSED = [
    # Postgres: the host as libpq finds it
    (DATABASE, f"postgresql://u:{SECRET}@db/x", NO_TLS),
    (DATABASE, f"postgres://u:{SECRET}@10.0.0.7/x", NO_TLS),
    (DATABASE, f"postgresql+psycopg://u:{SECRET}@db/x", NO_TLS),
    (DATABASE, f"postgresql://u:{SECRET}@/x?host=db.example.com", NO_TLS),
    (DATABASE, f"postgresql://u:{SECRET}@localhost/x?hostaddr=10.0.0.7", NO_TLS),
    (DATABASE, f"postgresql://u:{SECRET}@localhost,db/x", NO_TLS),
    (DATABASE, f"postgresql://u:{SECRET}@127.0.0.1:5432,10.0.0.7:5433/x", NO_TLS),
    (DATABASE, f"postgresql://u:{SECRET}@[fe80::1]:5432/x", NO_TLS),
    (DATABASE, f"postgresql://u:{SECRET}@127.0.0.1.evil.example/x", NO_TLS),
    (DATABASE, f"postgresql://u:{SECRET}@localhost,db/x?hostaddr=127.0.0.1,", NO_TLS),
    (DATABASE, f"postgresql://u:{SECRET}@/x?host=localhost,db&hostaddr=,", NO_TLS),
    (DATABASE, f"postgresql://u:{SECRET}@[::ffff:10.0.0.7]/x", NO_TLS),
    (LISTEN, f"postgresql://u:{SECRET}@db/x", NO_TLS),
    ("TURNMILL_OWNER_URL", f"postgresql://u:{SECRET}@db/x", NO_TLS),
    # … and what its sslmode is worth
    (DATABASE, f"postgresql://u:{SECRET}@db/x?sslmode=disable", NO_TLS),
    (DATABASE, f"postgresql://u:{SECRET}@db/x?sslmode=allow", NO_TLS),
    (DATABASE, f"postgresql://u:{SECRET}@db/x?sslmode=prefer", NO_TLS),
    (DATABASE, f"postgresql://u:{SECRET}@db/x?sslmode=require", UNVERIFIED),
    (DATABASE, f"postgresql://u:{SECRET}@db/x?sslmode=verify-ca", UNVERIFIED),
    # Redis
    (BROKER, f"redis://:{SECRET}@r:6379/0", NO_TLS),
    (BROKER, f"redis://:{SECRET}@10.0.0.7/0", NO_TLS),
    (BROKER, f"rediss://:{SECRET}@r/0?ssl_cert_reqs=none", UNVERIFIED),
    (BROKER, f"rediss://:{SECRET}@r/0?ssl_cert_reqs=CERT_NONE", UNVERIFIED),
    (BROKER, f"rediss://:{SECRET}@r/0?ssl_cert_reqs=optional", UNVERIFIED),
    (BROKER, f"rediss://:{SECRET}@r/0?ssl_check_hostname=false", UNVERIFIED),
    # Sentinel, every one of them
    (BROKER, f"sentinel://:{SECRET}@localhost,s2/0?master_name=m", NO_TLS),
    (BROKER, f"sentinel://:{SECRET}@localhost/0?master_name=m", NO_TLS),  # which may be anywhere
    (BROKER, f"sentinel://:{SECRET}@localhost:1;sentinel://s2:2/0?master_name=m", NO_TLS),
    (BROKER, f"sentinel://:{SECRET}@s/0?master_name=m&ssl=true&ssl_cert_reqs=none", UNVERIFIED),
    # RabbitMQ
    (BROKER, f"amqp://u:{SECRET}@r", NO_TLS),
    (BROKER, f"pyamqp://u:{SECRET}@r", NO_TLS),
    (BROKER, f"amqp://u:{SECRET}@localhost;amqp://u:{SECRET}@r", NO_TLS),
    (BROKER, f"amqps://u:{SECRET}@r?ssl_cert_reqs=none", UNVERIFIED),
    # Passwords
    (DATABASE, "postgresql://u@localhost/x", NO_PASSWORD),
    (DATABASE, "postgresql://u@db/x?sslmode=verify-full", NO_PASSWORD),
    (DATABASE, "postgresql://postgres:postgres@localhost/x", GUESSED),
    (DATABASE, "postgresql://turnmill:turnmill@db/x?sslmode=verify-full", GUESSED),
    (DATABASE, "postgresql://app:app@db/x?sslmode=verify-full", GUESSED),
    (DATABASE, "postgresql://app:APP@db/x?sslmode=verify-full", GUESSED),
    (DATABASE, "postgresql://u:%20@db/x?sslmode=verify-full", GUESSED),
    (DATABASE, "postgresql://u:p%61ssword@db/x?sslmode=verify-full", GUESSED),
    (BROKER, "redis://localhost/0", NO_PASSWORD),
    (BROKER, "rediss://r/0", NO_PASSWORD),
    (BROKER, "redis://:foobared@localhost/0", GUESSED),
    (BROKER, "amqps://r", GUESSED),
    (BROKER, "amqps://guest:guest@r", GUESSED),
    (
        BROKER,
        f"sentinel://:{SECRET}@s/0?master_name=m&ssl=true&sentinel_password=sentinel",
        GUESSED,
    ),
    # Vendors, who are given a key and everything that users write
    ("OPENAI_BASE_URL", "http://gateway.example.com/v1", NO_TLS),
    ("OPENAI_BASE_URL", "HTTP://10.0.0.7/v1", NO_TLS),
    ("OPENAI_BASE_URL", "gateway.example.com/v1", NO_TLS),
    ("ANTHROPIC_BASE_URL", "http://localhost.example.com", NO_TLS),
    # The mock, whose words would pass for a reply
    ("TURNMILL_MOCK_LATENCY", "0.1", "mock"),
    ("TURNMILL_MOCK_SEED", "7", "mock"),
    ("TURNMILL_MOCK_LEDGER", "/tmp/ledger", "mock"),
]

TAKEN = [
    (DATABASE, f"postgresql://u:{SECRET}@db/x?sslmode=verify-full"),
    (DATABASE, f"postgresql+psycopg://u:{SECRET}@db1,db2/x?sslmode=verify-full"),
    (DATABASE, f"postgresql://u:{SECRET}@db/x?sslrootcert=system"),  # libpq verifies fully then
    (DATABASE, f"postgresql://u:{SECRET}@127.0.0.1:5432/x"),
    (DATABASE, f"postgresql://u:{SECRET}@127.8.8.8/x"),
    (DATABASE, f"postgresql://u:{SECRET}@[::1]:5432/x"),
    (DATABASE, f"postgresql://u:{SECRET}@[::ffff:127.0.0.1]/x"),
    (DATABASE, f"postgresql://u:{SECRET}@LocalHost./x"),
    (DATABASE, f"postgresql://u:{SECRET}@db.example.com/x?hostaddr=127.0.0.1"),
    (DATABASE, "postgresql:///x"),  # over a socket the system says who comes
    (DATABASE, "postgresql:///x?host=/var/run/postgresql"),
    (DATABASE, "sqlite:///turns.db"),
    (LISTEN, f"postgresql://u:{SECRET}@db/x?sslmode=verify-full"),
    (BROKER, f"rediss://:{SECRET}@r:6379/0"),
    (BROKER, f"rediss://u:{SECRET}@r/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem"),
    (BROKER, f"redis://:{SECRET}@localhost/0"),
    (BROKER, f"redis://:{SECRET}@[::1]/0"),
    (BROKER, f"redis://:{SECRET}@LOCALHOST/0"),
    (BROKER, "redis+socket:///run/redis.sock"),
    (BROKER, f"unix://u:{SECRET}@/run/redis.sock?db=1"),
    (BROKER, f"sentinel://:{SECRET}@s1,s2/0?master_name=m&ssl=true"),
    (BROKER, f"amqps://u:{SECRET}@r/v"),
    (BROKER, f"amqp://u:{SECRET}@localhost"),
    ("OPENAI_BASE_URL", "https://gateway.example.com/v1"),
    ("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    ("ANTHROPIC_BASE_URL", "http://localhost:8080"),
]


@pytest.mark.parametrize(("setting", "value", "why"), REFUSED)
def test_what_is_unsafe_is_refused_by_the_name_of_its_setting(
    setting: str, value: str, why: str
) -> None:
    with pytest.raises(UnsafeSetting, match=setting) as refused:
        read(**{setting: value})
    assert why in str(refused.value)
    assert setting in refused.value.hint or "TURNMILL_ALLOW_MOCK" in refused.value.hint
    assert SECRET not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(("setting", "value"), TAKEN)
def test_what_is_safe_is_taken(setting: str, value: str) -> None:
    assert read(**{setting: value}).profile is Profile.PRODUCTION


BUCKET = {"TURNMILL_FILES_URL": "s3://files/all"}
_LAX = "AWS_ALLOW_INVALID_CERTIFICATES"


@pytest.mark.parametrize(
    ("variables", "setting", "why"),
    [
        (BUCKET | {"AWS_ENDPOINT_URL": "http://minio.example.com"}, "AWS_ENDPOINT_URL", NO_TLS),
        (BUCKET | {"AWS_ENDPOINT": "http://10.0.0.7:9000"}, "AWS_ENDPOINT", NO_TLS),
        (BUCKET | {"AWS_ENDPOINT_URL_S3": "minio:9000"}, "AWS_ENDPOINT_URL_S3", NO_TLS),
        (BUCKET | {_LAX: "true"}, _LAX, UNVERIFIED),
        (BUCKET | {_LAX: "1", "AWS_ENDPOINT": "https://minio.example.com"}, _LAX, UNVERIFIED),
        (
            {"TURNMILL_FILES_URL": "az://c", "AZURE_STORAGE_ENDPOINT": "http://az.example"},
            "AZURE_STORAGE_ENDPOINT",
            NO_TLS,
        ),
    ],
)
def test_a_bucket_is_judged_as_its_library_would_dial_it(
    variables: dict[str, str], setting: str, why: str
) -> None:
    with pytest.raises(UnsafeSetting, match=f"{setting} .*{why}") as refused:
        read(**variables)
    assert setting in refused.value.hint


@pytest.mark.parametrize(
    "variables",
    [
        BUCKET,
        BUCKET | {"AWS_ENDPOINT_URL": "https://minio.example.com", _LAX: "false"},
        BUCKET | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000", _LAX: "true"},
        BUCKET | {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://169.254.169.254"},
        {"TURNMILL_FILES_URL": "/srv/files", "AWS_ENDPOINT_URL": "http://minio.example.com"},
    ],
)
def test_a_bucket_that_is_safe_and_what_is_no_bucket_are_taken(variables: dict[str, str]) -> None:
    assert read(**variables).profile is Profile.PRODUCTION


@pytest.mark.parametrize("setting", [DATABASE, LISTEN, "TURNMILL_OWNER_URL"])
def test_a_url_that_nobody_can_read_is_not_taken_for_a_safe_one(setting: str) -> None:
    with pytest.raises(InvalidSetting):
        read(**{setting: f"POSTGRESQL://u:{SECRET}@db/x"})


@pytest.mark.parametrize("setting", [DATABASE, BROKER])
def test_development_takes_all_of_them(setting: str) -> None:
    for variable, value, _ in REFUSED:
        if variable == setting:
            assert value in vars_of(Settings.from_env({setting: value}))


def vars_of(settings: Settings) -> tuple[str, str]:
    return settings.database_url, settings.broker_url


def test_every_rule_of_the_table_is_broken_by_some_of_these() -> None:
    words = {why for _, _, why in REFUSED}
    assert all(any(word in rule.what for word in words) for rule in RULES)


@pytest.mark.parametrize(
    ("variables", "url", "why"),
    [
        ({"PGHOST": "db"}, f"postgresql://u:{SECRET}@/x", NO_TLS),
        ({"PGHOST": "localhost,db"}, f"postgresql://u:{SECRET}@/x", NO_TLS),
        ({"PGHOSTADDR": "10.0.0.7"}, f"postgresql://u:{SECRET}@localhost/x", NO_TLS),
        ({"PGSSLMODE": "require"}, f"postgresql://u:{SECRET}@db/x", UNVERIFIED),
        ({"PGHOST": "localhost", "PGPASSWORD": "postgres"}, "postgresql://u@/x", GUESSED),
    ],
)
def test_what_libpq_takes_from_its_environment_is_judged(
    variables: dict[str, str], url: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnsafeSetting, match=why):  # handed in …
        read(TURNMILL_DATABASE_URL=url, **variables)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UnsafeSetting, match=f"TURNMILL_DATABASE_URL.* {why}") as refused:
        read(TURNMILL_DATABASE_URL=url)  # … or of the process itself
    assert any(name in str(refused.value) for name in variables)


def test_what_libpq_takes_from_its_environment_can_make_a_url_safe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert read(TURNMILL_DATABASE_URL=f"postgresql://u:{SECRET}@db/x").database_url
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"db:*:*:u:{SECRET}\n")
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    assert read(TURNMILL_DATABASE_URL="postgresql://u@db/x").database_url


@pytest.mark.parametrize(
    "line",
    [
        *("", "# db:*:*:u:secret", "other:*:*:u:secret", "db:5433:*:u:secret", "db:*:y:u:secret"),
        *("db:*:*:v:secret", "db:*:*:u:", "db:*:*:u", "a:b"),
    ],
)
def test_a_file_of_passwords_for_others_makes_no_url_safe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"{line}\n")
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    with pytest.raises(UnsafeSetting, match="password"):
        read(TURNMILL_DATABASE_URL="postgresql://u@db/x")


def test_a_service_is_judged_by_what_its_file_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    services = tmp_path / "services"
    services.write_text("[far]\nhost=db.example.com\n[near]\nhost=127.0.0.1\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    with pytest.raises(UnsafeSetting, match=r"a service beside it, leads .+ TLS"):
        read(TURNMILL_DATABASE_URL=f"postgresql://u:{SECRET}@/x?service=far")
    assert read(TURNMILL_DATABASE_URL=f"postgresql://u:{SECRET}@/x?service=near").database_url
    monkeypatch.setenv("PGSERVICE", "far")
    with pytest.raises(UnsafeSetting, match="without TLS"):
        read(TURNMILL_DATABASE_URL=f"postgresql://u:{SECRET}@/x")


def test_urls_that_are_handed_to_a_client_are_judged_as_those_of_its_settings() -> None:
    settings = read()
    with pytest.raises(UnsafeSetting, match="TURNMILL_DATABASE_URL"):
        Client(database_url=f"postgresql://u:{SECRET}@db/x", settings=settings)
    with pytest.raises(UnsafeSetting, match="TURNMILL_BROKER_URL"):
        Client(
            database_url=f"postgresql://u:{SECRET}@localhost/x",
            broker_url="redis://localhost",
            settings=settings,
        )


def test_the_mock_is_set_up_in_production_where_that_is_asked_for_by_name() -> None:
    read(TURNMILL_MOCK_SEED="7", TURNMILL_ALLOW_MOCK="yes")
    with pytest.raises(InvalidSetting, match="TURNMILL_ALLOW_MOCK"):
        read(TURNMILL_ALLOW_MOCK="true")
