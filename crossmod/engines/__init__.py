"""Where tasks are made: on this machine, on a Slurm cluster, on a Ray cluster."""
