"""Turns that stand in shards, or wait for one, as whoever asks a vendor for them reads them.

What native batches hold is in no other store than Postgres: `shards` says so where one begins.
"""

from turnmill.store.postgres.batching import forms_of, left_in, read_parked

__all__ = ["forms_of", "left_in", "read_parked"]
