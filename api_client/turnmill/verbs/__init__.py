"""What both clients do, on a connection, and the checks of what callers hand in."""
