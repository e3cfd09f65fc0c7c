"""Doing verbs, on threads and as tasks: on the connection that a verb asks for; a worker told."""
