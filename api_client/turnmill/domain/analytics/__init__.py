"""Rules of what figures mean: windows of time, sketches, scores. No clock, no dice, no I/O."""
