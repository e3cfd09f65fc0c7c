"""Reaching what somebody else names: which addresses may be, and how no other one is."""
