"""Providers: a room for each vendor; others come by entry point. What they speak is named here."""

from turnmill_worker.providers.port import (
    Absent,
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
