"""Turnmill's tab in Flower: what waits and why, what failed, what it costs, what can be done."""
