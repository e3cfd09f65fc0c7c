"""What beat's jobs do."""
