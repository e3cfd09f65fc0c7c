"""The production profile: URLs of other hosts need TLS, whatever way the host is named."""

import pytest

from turnmill.domain.errors import UnsafeSetting
from turnmill.settings import Settings


def read(**variables: str) -> Settings:
    return Settings.from_env({"TURNMILL_PROFILE": "production"} | variables)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@db/x",
        "postgresql://u:p@db/x?sslmode=prefer",
        "postgresql:///x?host=db.example.com",
        "postgresql:///x?hostaddr=10.0.0.7",
        "postgresql://localhost,db/x",
        "postgresql://u:p@[fe80::1]:5432/x",
    ],
)
def test_a_database_elsewhere_without_tls_is_refused_by_the_name_of_its_setting(url: str) -> None:
    with pytest.raises(UnsafeSetting, match="TURNMILL_DATABASE_URL") as refused:
        read(TURNMILL_DATABASE_URL=url)
    assert "sslmode=verify-full" in refused.value.hint
    assert url not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@db/x?sslmode=verify-full",
        "postgresql+psycopg://db/x?sslmode=require",
        "postgresql://u:p@127.0.0.1:5432/x",
        "postgresql://u:p@[::1]:5432/x",
        "postgresql:///x?host=/var/run/postgresql",
        "sqlite:///turns.db",
    ],
)
def test_a_database_here_or_with_tls_is_taken(url: str) -> None:
    assert read(TURNMILL_DATABASE_URL=url).database_url == url


@pytest.mark.parametrize("url", ["redis://:p@r:6379/0", "redis://r/0?sslmode=require", "amqp://r"])
def test_a_broker_elsewhere_without_tls_is_refused(url: str) -> None:
    with pytest.raises(UnsafeSetting, match="TURNMILL_BROKER_URL"):
        read(TURNMILL_BROKER_URL=url)


@pytest.mark.parametrize("url", ["rediss://:p@r:6379/0", "redis://localhost/0", "amqps://r"])
def test_a_broker_here_or_with_tls_is_taken(url: str) -> None:
    assert read(TURNMILL_BROKER_URL=url).broker_url == url


def test_development_takes_all_of_them() -> None:
    url = "postgresql://u:p@db/x"
    assert Settings.from_env({"TURNMILL_DATABASE_URL": url}).database_url == url
