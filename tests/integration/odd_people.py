"""Odd values for whatever is said of several people in a session: see `odd_inputs`."""

from collections.abc import Mapping

from tests.integration.odd_inputs import Verb

OF_PEOPLE: Mapping[str, Verb] = {
    "send(sender)": Verb(lambda at, value: at.client.send(at.session, "x", sender=value)),
    "send(to)": Verb(lambda at, value: at.client.send(at.session, "x", to=value)),
    "send(note)": Verb(lambda at, value: at.client.send(at.session, value, to="participants")),
    "send(sender of a note)": Verb(
        lambda at, value: at.client.send(at.session, "x", to="participants", sender=value)
    ),
    "send(key of a note)": Verb(
        lambda at, value: at.client.send(at.session, "x", to="participants", idempotency_key=value)
    ),
    "follow(session)": Verb(lambda at, value: list(at.client.follow(value, as_="eve", timeout=0))),
    "follow(as_)": Verb(lambda at, value: list(at.client.follow(at.session, as_=value, timeout=0))),
    "follow(after)": Verb(
        lambda at, value: list(at.client.follow(at.session, as_="eve", after=value, timeout=0))
    ),
    "participants.add(name)": Verb(
        lambda at, value: at.client.sessions.participants.add(at.session, value),
        lambda at, made: made.name,
    ),
    "participants.add(role)": Verb(
        lambda at, value: at.client.sessions.participants.add(at.session, "bob", role=value)
    ),
    "participants.add(by)": Verb(
        lambda at, value: at.client.sessions.participants.add(at.session, "bob", by=value)
    ),
    "participants.remove": Verb(
        lambda at, value: at.client.sessions.participants.remove(at.session, value)
    ),
    "participants.list": Verb(lambda at, value: at.client.sessions.participants.list(value)),
    "participants.mark_read(upto)": Verb(
        lambda at, value: at.client.sessions.participants.mark_read(at.session, "eve", upto=value)
    ),
    "fork(max_cost_usd)": Verb(
        lambda at, value: at.client.sessions.fork(at.session, max_cost_usd=value)
    ),
}
