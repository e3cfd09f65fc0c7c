"""A provider that needs no vendor."""
