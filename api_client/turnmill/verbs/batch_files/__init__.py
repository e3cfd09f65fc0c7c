"""Files of batches: where bytes are from, what lines say, and what is wrong with them."""
