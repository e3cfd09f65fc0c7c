"""Whoever rates a turn and dies: `python -m tests.chaos.faulty_rater POINT TURN`."""

import sys

from sqlalchemy import Engine, event

from tests.chaos.faulty_client import die
from turnmill import Client


def main(point: str, turn: str) -> None:
    """Rate it, and die `before_commit`, or `before_response`."""
    with Client.from_env() as client:
        client.turns.get(turn)
        if point == "before_commit":
            event.listen(Engine, "commit", die)
        client.turns.feedback(turn, -0.5, "too long")
        die()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
