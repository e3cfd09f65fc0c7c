"""What one worker process consists of, and how it starts and stops."""
