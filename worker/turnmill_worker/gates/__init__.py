"""Gates: right before a call, whether it may be made now. Who limits nothing passes by a look."""
