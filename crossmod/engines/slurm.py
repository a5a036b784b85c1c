from crossmod.options import Options


class SlurmOptions(Options):
    """Options of the Slurm engine."""
