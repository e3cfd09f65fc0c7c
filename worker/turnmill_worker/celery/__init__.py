"""How Celery is set up, and its tasks."""
