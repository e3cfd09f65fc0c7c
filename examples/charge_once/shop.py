"""A tool that charges a card, and charges it once, whatever becomes of the worker that runs it.

Workers find it by TURNMILL_TOOLS=shop, and the model of a session may call it whose settings say
{"tools": ["charge"]}. The payments are a file here, SHOP_PAYMENTS; a real service takes the key in
the same way: Stripe as the header Idempotency-Key, say.
"""

import os
import sqlite3
from contextlib import closing

import turnmill


@turnmill.tool(effects="idempotent")
def charge(customer: str, cents: int, context: turnmill.ToolContext) -> str:
    """Charge a customer's card.

    Args:
        customer: The customer's number.
        cents: How much, in cents; more than nothing.
        context: Whose call it is; no model is told of it.
    """
    if cents < 1:
        raise turnmill.ToolError("nothing can be charged that is less than a cent")
    # Of a second run under the same key the service says what it did at the first.
    return f"charged {pay(context.idempotency_key, customer, cents)} cents to {customer}"


def pay(key: str, customer: str, cents: int) -> int:
    """Charge what was not charged under this key before; return what was."""
    with closing(sqlite3.connect(os.environ["SHOP_PAYMENTS"], isolation_level=None)) as payments:
        payments.execute("CREATE TABLE IF NOT EXISTS paid (key PRIMARY KEY, customer, cents)")
        payments.execute("INSERT OR IGNORE INTO paid VALUES (?, ?, ?)", (key, customer, cents))
        (paid,) = payments.execute("SELECT cents FROM paid WHERE key = ?", (key,)).fetchone()
        return int(paid)
