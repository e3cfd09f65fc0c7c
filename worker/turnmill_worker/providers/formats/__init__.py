"""Wire formats: pure functions from a Request to a body, and from a payload to a reply."""
