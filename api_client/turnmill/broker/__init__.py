"""What a broker URL means, and the one door into the broker."""
