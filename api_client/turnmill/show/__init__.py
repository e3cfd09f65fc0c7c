"""What people see in a terminal: words and tables, no commands."""
