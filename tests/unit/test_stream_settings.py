"""Which Redis carries streams, what production asks of it, and what doctor says of it."""

from collections.abc import Mapping

import pytest

from turnmill.cli.doctor.broker import check_streams
from turnmill.cli.doctor.findings import Examination, Level
from turnmill.domain.errors import InvalidSetting, UnsafeSetting
from turnmill.settings import Settings
from turnmill.streams.carrying import redis_of_streams

REDIS = "redis://127.0.0.1:6399/0"
PRODUCTION = {
    "TURNMILL_PROFILE": "production",
    "TURNMILL_ENCRYPTION": "off",
    "TURNMILL_DATABASE_URL": "postgresql://app:9d1c7b@127.0.0.1/app",
}


def settings(**env: str) -> Settings:
    return Settings.from_env({f"TURNMILL_{name}": value for name, value in env.items()})


@pytest.mark.parametrize(
    ("env", "port"),
    [
        ({"BROKER_URL": REDIS}, 6399),
        ({"BROKER_URL": "amqp://127.0.0.1"}, None),
        ({}, None),
        ({"BROKER_URL": REDIS, "STREAM_URL": "off"}, None),
        ({"BROKER_URL": REDIS, "STREAM_URL": "OFF"}, None),
        ({"BROKER_URL": "amqp://127.0.0.1", "STREAM_URL": "redis://127.0.0.1:7000"}, 7000),
    ],
)
def test_streams_are_carried_by_the_broker_unless_another_redis_is_named(
    env: Mapping[str, str], port: int | None
) -> None:
    broker = redis_of_streams(settings(**env))
    assert (broker and broker.places[0].port) == port


@pytest.mark.parametrize("url", ["amqp://127.0.0.1", "memory://", "nonsense:secret", "redis://a,b"])
def test_a_url_of_streams_that_leads_to_no_redis_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        redis_of_streams(settings(STREAM_URL=url))
    assert "TURNMILL_STREAM_URL" in refused.value.hint
    assert "secret" not in str(refused.value)


def test_production_asks_of_it_what_it_asks_of_a_broker() -> None:
    with pytest.raises(UnsafeSetting, match="TURNMILL_STREAM_URL leads to another host without"):
        Settings.from_env(PRODUCTION | {"TURNMILL_STREAM_URL": "redis://:9d1c7b@elsewhere/0"})
    Settings.from_env(PRODUCTION | {"TURNMILL_STREAM_URL": "rediss://:9d1c7b@elsewhere/0"})
    Settings.from_env(PRODUCTION | {"TURNMILL_STREAM_URL": "off"})


def test_doctor_names_a_redis_of_streams_that_does_not_answer() -> None:
    asked = settings(STREAM_URL="redis://127.0.0.1:1/0")
    (finding,) = check_streams(Examination(settings=asked, environ={}))
    assert finding.level is Level.WRONG
    assert "127.0.0.1:1" in finding.what
    assert list(check_streams(Examination(settings=settings(), environ={}))) == []
