"""Odd values for whatever is said of replies, and asked of figures: see `odd_inputs`."""

from collections.abc import Mapping

from tests.integration.odd_inputs import Verb

OF_FEEDBACK: Mapping[str, Verb] = {
    "feedback(turn)": Verb(lambda at, value: at.client.turns.feedback(value, 1)),
    "feedback(score)": Verb(
        lambda at, value: at.client.turns.feedback(at.final, value, by="eve"),
    ),
    "feedback(comment)": Verb(
        lambda at, value: at.client.turns.feedback(at.final, 1, value),
        lambda at, given: given.comment,
    ),
    "feedback(by)": Verb(
        lambda at, value: at.client.turns.feedback(at.final, 1, by=value),
        lambda at, given: given.by,
    ),
    "analytics.session": Verb(lambda at, value: at.client.analytics.session(value)),
    "analytics.user": Verb(lambda at, value: at.client.analytics.user(value)),
    **{
        f"analytics.user({name})": Verb(
            lambda at, value, name=name: at.client.analytics.user("ada", **{name: value})  # type: ignore[misc]
        )
        for name in ("since", "until", "zone")
    },
    **{
        f"analytics.feedback({name})": Verb(
            lambda at, value, name=name: at.client.analytics.feedback(**{name: value})  # type: ignore[misc]
        )
        for name in ("session", "turn", "user_id", "most", "commented", "after", "limit")
    },
}
