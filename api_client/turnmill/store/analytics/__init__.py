"""Figures of many turns: how they are added up, kept, and read. Functions on a connection."""
