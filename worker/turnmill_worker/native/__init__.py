"""Vendors' batches: shards are made of turns, brought to a vendor, looked after, and taken."""
