"""What the URL of a server means, for every library that reads it, and which ones are refused."""
