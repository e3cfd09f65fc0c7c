"""People in processes of their own: some say things in a session, others read what happens there.

`say DATABASE SESSION FIRST COUNT NAME…`: so many messages by these names, one after the other;
every third one is to people alone.
`read DATABASE SESSION FOLDER NAME…`: each name notes what it is told in a file of its name, a line
each, and goes on behind the last whole line that it finds there; now and then it lets go of what it
follows, and follows it anew.
"""

import random
import sys
import threading
from pathlib import Path
from typing import Any

from turnmill import Client, Settings


def say(client: Client, session: str, first: int, names: list[str], count: int) -> None:
    for n in range(first, first + count):
        options: Any = {"to": "participants"} if n % 3 == 0 else {}
        sender = names[n % len(names)]
        client.send(session, f"message {n}", sender=sender, idempotency_key=f"m{n}", **options)


def read(client: Client, session: str, path: Path, name: str) -> None:
    dice = random.Random(name)
    while True:
        cursor = _last(path)
        most = dice.randrange(1, 200)
        with path.open("a", encoding="utf-8") as file:
            for one in client.follow(session, as_=name, after=cursor):
                file.write(f"{one.cursor} {one.kind} {one.sender} {one.text}\n")
                file.flush()
                most -= 1
                if not most:
                    break


def _last(path: Path) -> int:
    """Return the cursor of the last whole line; what was half-written is taken away."""
    if not path.exists():
        return 0
    whole, newline, _ = path.read_text(encoding="utf-8").rpartition("\n")
    path.write_text(whole + newline, encoding="utf-8")
    return int(whole.rpartition("\n")[2].partition(" ")[0]) if whole else 0


def main() -> None:
    what, database_url, session, *words = sys.argv[1:]
    with Client(settings=Settings(database_url=database_url)) as client:
        if what == "say":
            first, count, *names = words
            say(client, session, int(first), names, int(count))
            return
        folder, *names = words
        for name in names:
            of = (client, session, Path(folder) / name, name)
            threading.Thread(target=read, args=of, daemon=True).start()
        threading.Event().wait()


if __name__ == "__main__":
    main()
