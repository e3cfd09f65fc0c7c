"""Let a model sell something: `python buy.py openai gpt-5`, beside a worker that has the tool."""

import sys

from turnmill import Client


def buy(client: Client, provider: str, model: str) -> str:
    """Ask a model that may charge a card, and return what it says."""
    session = client.sessions.create(
        user_id="ada",
        provider=provider,
        model=model,
        system_prompt="You sell tickets at 12 euros each.",
        settings={"tools": ["charge"]},
    )
    turn = client.send(session, "Two tickets, please. My customer number is 7.")
    return turn.result(timeout=300).text


if __name__ == "__main__":
    with Client.from_env() as client:
        sys.stdout.write(buy(client, *sys.argv[1:3]) + "\n")
