"""Tools: what is registered, what a session may use of it, and how one call is run."""
