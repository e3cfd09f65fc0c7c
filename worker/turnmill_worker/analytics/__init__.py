"""What beat runs of analytics: nothing of it is on a turn's way."""
