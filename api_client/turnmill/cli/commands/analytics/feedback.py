"""`turnmill analytics feedback`: what was said of replies."""

from __future__ import annotations

import click

from turnmill.cli.context import advise, open_client, say
from turnmill.cli.listing import listing_options
from turnmill.cli.short_ids import session_of, turn_of
from turnmill.show.feedback_view import FEEDBACK
from turnmill.show.listing import print_listing


@click.command("feedback")
@click.option("--session", "key", metavar="KEY|ID", help="On turns of this session only.")
@click.option("--turn", metavar="TURN", help="On this turn only.")
@click.option("--user", metavar="USER", help="Said by this user, in whosever session.")
@click.option("--most", type=click.FloatRange(-1, 1), help="With this score, or a lower one.")
@click.option("--commented", is_flag=True, help="Only where something was said in words.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--after", metavar="ID", help="Go on after the last one of the page before.")
@listing_options
def feedback(
    *,
    key: str | None,
    turn: str | None,
    user: str | None,
    most: float | None,
    commented: bool,
    limit: int,
    after: str | None,
    as_json: bool,
) -> None:
    """List what was said of replies, with its words, what was said last first."""
    with open_client() as client:
        found = client.analytics.feedback(
            session=None if key is None else session_of(client, key),
            turn=None if turn is None else turn_of(client, turn).id,
            user_id=user,
            most=most,
            commented=commented,
            after=after,
            limit=limit,
        )
    print_listing(found, FEEDBACK, as_json=as_json)
    if not found:
        advise("nobody has said anything: turnmill turns feedback TURN --score 1")
    elif len(found) == limit:
        say(f"maybe more: --after {found[-1].id}")
