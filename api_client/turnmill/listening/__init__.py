"""Waiting for Postgres to tell, in threads and on an event loop."""
