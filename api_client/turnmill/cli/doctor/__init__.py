"""What `turnmill doctor` looks at."""
