"""Running a turn: claim, ask, settle."""
