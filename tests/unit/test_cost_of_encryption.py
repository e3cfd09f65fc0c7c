"""What encryption costs a turn with a history of twenty messages: CPU of client and worker."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.keyed import at_hand
from turnmill.crypto.wanted import Owner
from turnmill.domain.ids import SessionId, TurnId
from turnmill.new_ids import new_id
from turnmill.store.opening import opened_claim, opened_object
from turnmill.store.rules.sealing import Sealer
from turnmill.store.schema.tables import sessions

ADA = Owner("ada")
#: Turns that are measured together, and how often: what else runs here takes its time from some.
TURNS, TIMES = 100, 40


class Talk:
    """A session of ten turns, each of a message and a reply of so many letters."""

    def __init__(self, letters: int) -> None:
        self.keys = at_hand()
        key = self.keys.current(ADA)
        self.keys.fetch(ids=[key.id])
        self.session, self.turn = SessionId(new_id()), TurnId(new_id())
        self.sealer = Sealer({self.session: key}, self.keys)
        self.text = "x" * letters
        history = []
        for _ in range(10):
            turn = TurnId(new_id())
            rows = [self.said(position) for position in (1, 2)]
            self.sealer.messages(self.session, turn, rows)
            history += [["user", row["content"], str(turn), row["position"]] for row in rows]
        self.history = json.dumps(history)
        prompt = {"table": "sessions", "column": "system_prompt", "place": self.session.hex}
        self.prompt = key.seal(b"Be brief and kind, and say so when you do not know.", **prompt)
        asked = [self.said(1)]
        self.sealer.messages(self.session, self.turn, asked)
        self.asked = [["user", asked[0]["content"], 1]]

    def said(self, position: int) -> dict[str, object]:
        return {"position": position, "content": [{"type": "text", "text": self.text}]}

    def go_on(self) -> str:
        """Do what is done of a turn's content: seal it, open it with all before, seal a reply."""
        self.sealer.messages(self.session, self.turn, [self.said(1)])
        ids = (self.turn, self.session)
        _, _, history = opened_claim(self.keys, ids, "ada", (self.prompt, self.asked, self.history))
        self.sealer.messages(self.session, self.turn, [self.said(2)])
        opened_claim(self.keys, ids, "ada", (None, self.asked, "[]"))
        return history


def cpu_of_a_turn(go_on: Callable[[], object]) -> float:
    """Return the CPU milliseconds of a turn, when nothing else was in the way."""
    found = []
    for _ in range(TIMES):
        began = time.process_time()
        for _ in range(TURNS):
            go_on()
        found.append((time.process_time() - began) / TURNS * 1e3)
    return min(found)


@pytest.mark.slow
@pytest.mark.parametrize("letters", [40, 300, 1200])
def test_encryption_costs_a_turn_of_twenty_messages_a_tenth_of_a_millisecond(letters: int) -> None:
    talk = Talk(letters)
    assert len(json.loads(talk.go_on())) == 20
    found = cpu_of_a_turn(talk.go_on)
    load = Path("/proc/loadavg").read_text().strip()
    sys.stdout.write(f"{letters} letters: {found:.4f} ms of CPU a turn, load {load}\n")
    assert found <= 0.1


@pytest.mark.slow
def test_encrypted_settings_of_a_kilobyte_add_a_fiftieth_of_a_millisecond() -> None:
    talk = Talk(40)
    talk.keys.seals_settings = True
    said = {"max_output_tokens": 400, "metadata": {f"key_{n}": "x" * 50 for n in range(16)}}
    column, ids = sessions.c.settings, (talk.turn, talk.session)
    sealed = json.dumps(talk.sealer.object(talk.session, column, talk.session.hex, said))

    def read() -> dict[str, object]:
        return opened_object(talk.keys, ids, "ada", "settings", json.loads(sealed))

    lies = json.dumps(said)
    assert read() == said
    plain = cpu_of_a_turn(lambda: json.loads(lies))
    found = cpu_of_a_turn(read)
    sys.stdout.write(f"settings: {found:.4f} ms of CPU a turn, read plain {plain:.4f}\n")
    assert found <= 0.02
