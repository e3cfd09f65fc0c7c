"""Reading and changing what is not on a turn's hot path."""
