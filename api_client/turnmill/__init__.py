"""Turnmill."""
