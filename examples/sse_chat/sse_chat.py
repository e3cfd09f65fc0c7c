"""A chat over server-sent events: a browser that loses its connection goes on where it was.

TURNMILL_DATABASE_URL=… TURNMILL_BROKER_URL=… uvicorn sse_chat:app
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException
from fastapi.responses import HTMLResponse, StreamingResponse

from turnmill import AsyncClient, AsyncTurn, InvalidInput, StreamEvent, TurnNotFound, TurnTimeout

PROVIDER = os.environ.get("CHAT_PROVIDER", "mock")
MODEL = os.environ.get("CHAT_MODEL", "mock")

#: Proxies end what is silent; a browser comes back by itself, with the last id that it had.
LONGEST = timedelta(minutes=5)

client = AsyncClient.from_env()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Close the client when the application ends."""
    yield
    await client.close()


app = FastAPI(lifespan=lifespan)


@app.post("/messages", status_code=202)
async def send(user: str, text: str, key: str) -> dict[str, str]:
    """Take a message; `key` is the browser's own, so that a second click sends nothing twice."""
    session = await client.sessions.create(
        user_id=user, provider=PROVIDER, model=MODEL, key=f"chat-{user}"
    )
    turn = await client.send(session, text, stream=True, idempotency_key=key)
    return {"turn": str(turn.id)}


@app.get("/turns/{turn_id}/events")
async def events(
    turn_id: str, last_event_id: Annotated[str | None, Header()] = None
) -> StreamingResponse:
    """Stream a turn's events, behind the last one that the browser had."""
    try:
        turn = await client.turns.get(turn_id)
        told = turn.stream(after=last_event_id, timeout=LONGEST)
    except (InvalidInput, TurnNotFound):
        raise HTTPException(404) from None
    # A real application asks here whose turn it is.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines(told), media_type="text/event-stream", headers=headers)


@app.delete("/turns/{turn_id}")
async def cancel(turn_id: str) -> dict[str, str]:
    """Cancel a turn: to close the stream does not."""
    turn: AsyncTurn = await client.turns.get(turn_id)
    return {"state": await turn.cancel()}


async def lines(told: AsyncIterator[StreamEvent]) -> AsyncIterator[str]:
    """Yield events as they go over the wire."""
    try:
        async for event in told:
            said = {"text": event.text, "state": event.state, "error_code": event.error_code}
            yield f"id: {event.id}\nevent: {event.kind}\ndata: {json.dumps(said)}\n\n"
    except TurnTimeout:
        yield ": come again\n\n"


@app.get("/")
async def page() -> HTMLResponse:
    """Show the chat."""
    return HTMLResponse(PAGE)


PAGE = """<!doctype html>
<title>Chat</title>
<main></main>
<form><input name="text" autofocus autocomplete="off"></form>
<script>
const user = localStorage.user ??= crypto.randomUUID();
document.forms[0].onsubmit = async (submitted) => {
  submitted.preventDefault();
  const text = submitted.target.text.value;
  submitted.target.reset();
  say().textContent = text;
  const query = new URLSearchParams({user, text, key: crypto.randomUUID()});
  const {turn} = await (await fetch("/messages?" + query, {method: "POST"})).json();
  watch(turn, say());
};
function watch(turn, line) {
  const source = new EventSource(`/turns/${turn}/events`);
  const begin = () => { line.textContent = ""; };
  source.addEventListener("attempt_started", begin);
  source.addEventListener("attempt_restarted", begin);
  source.addEventListener("delta", (one) => { line.textContent += JSON.parse(one.data).text; });
  source.addEventListener("ended", (one) => {
    source.close();
    const {state, error_code} = JSON.parse(one.data);
    if (state !== "succeeded") line.textContent += ` [${error_code ?? state}]`;
  });
}
function say() {
  return document.querySelector("main").appendChild(document.createElement("p"));
}
</script>
"""
