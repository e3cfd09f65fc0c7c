"""The rules of Turnmill, pure: no clock, no randomness, no I/O."""
