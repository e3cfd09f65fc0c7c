"""Providers: a room for each vendor; others come by entry point. What they speak is named here."""

from turnmill_worker.providers.port import (
    Absent,
    Accepts,
    Cancels,
    Done,
    Emit,
    Failed,
    Provider,
    Request,
    Running,
    Unknowable,
    Usage,
)

__all__ = [
    "Absent",
    "Accepts",
    "Cancels",
    "Done",
    "Emit",
    "Failed",
    "Provider",
    "Request",
    "Running",
    "Unknowable",
    "Usage",
]
