"""Celery's own integration tests, on the asyncio pool and on `threads`, compared test by test."""
