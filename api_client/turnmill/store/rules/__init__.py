"""What both engines hold to: what is written and from what, declared once and rendered by each."""
