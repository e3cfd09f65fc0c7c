"""Tasks: thin shells around what knows nothing of Celery, one module for each kind of work."""
