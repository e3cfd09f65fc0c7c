"""What beat runs of analytics: loaded by the jobs that need it, and on no turn's way."""
