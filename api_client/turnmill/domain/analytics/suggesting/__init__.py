"""What could be done better, as rules: one small function each, of figures alone.

Each has a threshold that stands here, and speaks only where the whole interval of what it has seen
is beyond it. What it says comes with the figures that it goes by.
"""
