"""A broker URL means the same to everybody who reads it, and nobody prints what is secret in it."""

import random
import ssl
from urllib.parse import quote

import pytest
from kombu.connection import Connection

from turnmill.connections.broker_urls import read_broker_url
from turnmill.connections.brokers import Address, Kind, QueueType
from turnmill.connections.shown import shown
from turnmill.domain.errors import InvalidSetting

ODD = [
    "p@ss",
    "a:b",
    "a/b",
    "a?b",
    "a#b",
    "50%",
    "%41",
    "a+b",
    "a,b",
    "a;b",
    " a b ",
    "pässwörd",
    "&=",
    "[x]",
]


@pytest.mark.parametrize("password", ODD)
@pytest.mark.parametrize("form", ["redis://u:{}@h/0", "amqp://u:{}@h/v", "unix://u:{}@/s"])
def test_an_encoded_password_is_what_kombu_and_redis_py_are_given(form: str, password: str) -> None:
    broker = read_broker_url(form.format(quote(password, safe="")))
    assert (broker.username, broker.password) == ("u", password)
    assert broker.for_redis()["password"] == password
    if not broker.socket:  # of a socket, kombu reads its own URL where it connects
        assert Connection(broker.for_kombu().url).password == password


def test_kombu_is_told_to_verify_whom_it_speaks_to_and_so_is_redis_py() -> None:
    broker = read_broker_url("rediss://:pw@redis.example.com/0")
    assert broker.tls is not None
    assert broker.tls.verifies
    for said in (broker.for_kombu().ssl, broker.for_redis()):
        assert said is not None
        assert (said["ssl_cert_reqs"], said["ssl_check_hostname"]) == ("required", True)
    amqp = read_broker_url("amqps://u:pw@r").for_kombu().ssl
    assert amqp is not None
    assert amqp["cert_reqs"] is ssl.CERT_REQUIRED
    assert "server_hostname" in amqp  # kombu puts the name there, and py-amqp looks for it


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://:pw@a:1,b:2/3?master_name=m&sentinel_password=s",
        "sentinel://:pw@a:1;sentinel://:pw@b:2/3?master_name=m&sentinel_password=s",
        "sentinel://:pw@a:1/3?master_name=m&sentinel_password=s;sentinel://:pw@b:2",
    ],
)
def test_several_sentinels_are_named_in_one_url_or_as_kombu_has_them(url: str) -> None:
    broker = read_broker_url(url)
    assert broker.kind is Kind.SENTINEL
    assert broker.places == (Address("a", 1), Address("b", 2))
    assert (broker.database, broker.master_name) == (3, "m")
    options = broker.for_kombu({"socket_timeout": 1.0}).options
    assert options["sentinel_kwargs"] == {
        "username": None,
        "password": "s",
        "socket_timeout": 1.0,
    }


def test_a_queue_of_rabbitmq_is_of_the_type_that_the_url_says() -> None:
    assert read_broker_url("amqp://u:p@r/v").queue_type is QueueType.CLASSIC
    assert read_broker_url("amqp://u:p@r/v?queue_type=quorum").queue_type is QueueType.QUORUM


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("", "cannot be understood"),
        ("localhost:6379", "cannot be understood"),
        ("http://localhost", "cannot be understood"),
        ("sqs://", "cannot be understood"),
        ("redis+cluster://h", "Cluster"),
        ("rediss+cluster://h", "Cluster"),
        ("redis-cluster://h", "Cluster"),
        ("redis+sentinel://h", "unknown scheme"),
        ("redis://a,b/0", "several Redis servers"),
        ("redis://a/0;redis://b/0", "several Redis servers"),
        ("sentinel://h/0", "no primary"),
        ("amqps://u:p@a,b", "several hosts with TLS"),
        ("amqp://u:p@a/v;amqp://u:q@b/v", "differ in more than the host"),
        ("amqp://u:p@a/v;amqp://u:p@b/w", "differ in more than the host"),
        ("amqp://u:p@a;amqps://u:p@b", "differ in more than the host"),
        ("redis://h:port/0", "no host that can be understood"),
        ("redis://h:99999/0", "a port that is none"),
        ("redis://h/first", "a database that is no number"),
        ("redis://h/1?db=2", "two databases"),
        ("redis://h/0\n", "a line break"),
        ("unix://", "no socket"),
        ("redis+socket://h", "no socket"),
        ("redis://h/0?ssl_cert_reqs=required", "how to use TLS, and does not use it"),
        ("sentinel://h/0?master_name=m&ssl_ca_certs=f", "how to use TLS, and does not use it"),
        ("rediss://h/0?ssl_cert_reqs=sometimes", "ssl_cert_reqs"),
        ("rediss://h/0?ssl_check_hostname=maybe", "ssl_check_hostname"),
        ("rediss://h/0?ssl_ca_path=/d", "ssl_ca_path"),
        ("redis://h/0?socket_timeout=5", "socket_timeout"),
        ("redis://h/0?health_check_interval=5", "health_check_interval"),
        ("redis://h/0?password=x", "password"),
        ("redis://h/0?protocol=3", "protocol"),
        ("amqp://u:p@h/v?heartbeat=5", "heartbeat"),
        ("amqp://u:p@h/v?queue_type=stream", "queue_type"),
        ("redis://:pa/ss@h/0", "before its last @"),
        ("redis://:pa?ss@h/0", "before its last @"),
        ("redis://:pa#ss@h/0", "before its last @"),
    ],
)
def test_what_would_mean_different_things_is_refused_with_the_way_out(url: str, named: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        read_broker_url(url)
    assert named in str(refused.value)
    assert refused.value.hint


FORMS = [
    "redis://:{}@broker/0",
    "rediss://{}:{}@broker:6380/0?ssl_cert_reqs=none",
    "redis://:{}@broker/0;redis://:{}@other/1",
    "redis://:{}@broker/0,redis://:{}@other/1",
    "sentinel://:{}@broker,other:26380/0?master_name=m&sentinel_password={}",
    "amqp://me:{}@broker/v;amqp://me:{}@other/v",
    "unix://:{}@/run/broker.sock",
    "postgresql://{}:{}@broker,other:5433/base",
    "postgresql://me:{}@broker/base?password={}",
    "postgresql+psycopg:///base?host=broker&password={}",
    "http://me:{}@broker:5555",
    "redis://broker/0?password={}",
    "{}",
]
#: What no host or path of these forms is made of.
LETTERS = "QWXYZ0123456789" + "@:/?#%+,;=& []ñ€"


@pytest.mark.parametrize("form", FORMS)
def test_no_part_of_a_password_is_shown_encoded_or_not(form: str) -> None:
    draw = random.Random(form)
    for _ in range(300):
        password = "Q" + "".join(draw.choices(LETTERS, k=12)) + "Z"
        for written in (password, quote(password, safe="")):
            told = shown(form.format(written, written)).replace("26380", "").replace("6380", "")
            told = (
                told.replace("5433", "").replace("5555", "").removesuffix("/0").removesuffix("/1")
            )
            assert not set("QWXYZ23456789ñ€") & set(told), told


@pytest.mark.parametrize("form", FORMS)
def test_no_refusal_quotes_a_password(form: str) -> None:
    draw = random.Random(form)
    for _ in range(200):
        password = "Q" + "".join(draw.choices(LETTERS, k=12)) + "Z"
        assert not set("QWXYZñ€") & set(refusal_of(form.format(password, password)))


def refusal_of(url: str) -> str:
    try:
        read_broker_url(url)
    except InvalidSetting as error:
        return f"{error} {error.hint}"
    return ""


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://:p@h:6379/0", "redis://h:6379/0"),
        ("redis://:p@[::1]:6379/0", "redis://[::1]:6379/0"),
        ("postgresql://u:p@a:5432,b/base", "postgresql://a:5432,b/base"),
        ("postgresql:///base?host=/run", "postgresql:///base"),
        ("sqlite:///my turns.db", "sqlite:///my turns.db"),
        ("http://u:p@127.0.0.1:5555", "http://127.0.0.1:5555"),
        ("redis://:p@a/0;redis://:q@b/0", "redis://a/0;redis://b/0"),
    ],
)
def test_where_a_url_leads_is_shown(url: str, place: str) -> None:
    assert shown(url) == place
