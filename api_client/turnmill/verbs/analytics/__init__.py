"""What all turns came to, and what follows from it: the verbs of `client.analytics`."""
