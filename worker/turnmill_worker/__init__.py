"""Turnmill's worker: what operators run."""
