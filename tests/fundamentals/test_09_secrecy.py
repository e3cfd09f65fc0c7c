"""What users say stands in Postgres and nowhere else."""

import base64
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import redis

from tests.fundamentals.conftest import System
from turnmill import Client, Image, InvalidInput, Text, TurnFailed, TurnState

WAIT = 30
CANARY = "canary-7f3a91c2"
PAGES = ("/workers", "/tasks", "/broker", "/api/tasks", "/api/workers", "/api/queues/length")


@contextmanager
def monitored(broker_url: str) -> Iterator[list[str]]:
    """Collect every command that the broker executes."""
    seen: list[str] = []
    with redis.Redis.from_url(broker_url) as client, client.monitor() as monitor:

        def listen() -> None:
            for command in monitor.listen():
                seen.append(str(command["command"]))
                if "end of watch" in seen[-1]:
                    return

        thread = threading.Thread(target=listen)
        thread.start()
        yield seen
        with redis.Redis.from_url(broker_url) as other:
            other.echo("end of watch")
        thread.join(timeout=10)


def page(flower_url: str, path: str) -> str:
    parts = urlsplit(flower_url)
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    request = urllib.request.Request(
        f"http://{parts.hostname}:{parts.port}{path}",
        headers={"Authorization": "Basic " + base64.b64encode(login.encode()).decode()},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(response.read().decode())


def logs(home: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in home.rglob("*.log"))


def test_the_words_of_users_and_providers_stand_in_postgres_and_nowhere_else(
    client: Client, system: System
) -> None:
    session = client.sessions.create(user_id="ada", system_prompt=f"prompt {CANARY}")
    with monitored(system.broker_url) as commands:
        client.send(session, [Text(f"{CANARY} "), Text(CANARY)]).result(timeout=WAIT)
        with pytest.raises(InvalidInput) as unsent:
            client.send(session, [Text(CANARY), Image(CANARY)])
        refused = client.send(session, CANARY, metadata={"mock": {"faults": "rejected"}})
        with pytest.raises(TurnFailed) as caught:
            refused.result(timeout=WAIT)
        bulk = client.send_many([(session, CANARY)])
        assert bulk[0].result(timeout=WAIT).text
    assert any(str(refused.id) in command for command in commands), "nothing was watched"
    assert not any(CANARY in command for command in commands)
    with redis.Redis.from_url(system.broker_url) as broker:
        assert not any(CANARY in str(broker.dump(key)) for key in broker.scan_iter())
    assert not any(CANARY in page(system.flower_url, path) for path in PAGES)
    assert CANARY not in logs(system.home)
    assert CANARY not in f"{caught.value!r} {caught.value.hint} {unsent.value!r}"
    assert refused.refresh().state is TurnState.FAILED
    assert sum(CANARY in message.text for message in client.sessions.history(session)) == 5
