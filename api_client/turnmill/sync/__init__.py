# Made from aio/__init__.py by `make sync`: change that.
"""The client for threads."""
