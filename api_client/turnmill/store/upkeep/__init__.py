"""What beat's jobs do to rows, and the promises that rows keep."""
