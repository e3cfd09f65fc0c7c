"""The protocol: the only writers of a turn's state."""
