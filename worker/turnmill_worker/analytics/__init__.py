"""What beat has found out of many turns: loaded by the jobs that need it, and by nobody else."""
