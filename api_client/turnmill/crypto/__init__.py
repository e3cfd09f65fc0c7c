"""Encryption at rest: data keys of users, the master keys that wrap them, where they are kept."""
