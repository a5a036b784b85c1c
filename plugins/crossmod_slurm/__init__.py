"""Tasks as jobs of a Slurm cluster."""

from crossmod_slurm.engine import Slurm
from crossmod_slurm.options import SlurmOptions

__all__ = ["Slurm", "SlurmOptions"]
