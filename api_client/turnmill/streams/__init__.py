"""Copies of replies that are being written: how they are carried, and how they are read."""
