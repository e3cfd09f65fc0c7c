"""A program with a client that forks; its child closes the client and ends in the ordinary way."""

import gc
import os
import sys

import redis
from sqlalchemy import text

from turnmill import Client


def main(database_url: str, broker_url: str) -> None:
    client = Client(database_url=database_url, broker_url=broker_url)
    session = client.sessions.create(user_id="ada")
    client.send(session, "before")
    before = connections(client, broker_url)
    child = os.fork()
    if child == 0:
        client.send(session, "from the child")
        client.close()
        del client
        gc.collect()
        sys.exit(0)  # objects are freed, finalizers and exit handlers run
    assert os.waitpid(child, 0)[1] == 0
    client.send(session, "after")
    assert connections(client, broker_url) == before
    print("the same connections")  # noqa: T201


def connections(client: Client, broker_url: str) -> tuple[int, set[str]]:
    """Return the server's process of the idle connection, and the broker's ids of its clients."""
    with client._executor.database.begin() as conn:
        backend = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with redis.Redis.from_url(broker_url) as broker:
        here = broker.client_id()
        found = {one["id"] for one in broker.client_list() if int(one["id"]) != here}
    return backend, found


if __name__ == "__main__":
    main(*sys.argv[1:])
