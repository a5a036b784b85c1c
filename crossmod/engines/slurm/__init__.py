"""Tasks as jobs of a Slurm cluster."""

from crossmod.engines.slurm.engine import Slurm
from crossmod.engines.slurm.options import SlurmOptions

__all__ = ["Slurm", "SlurmOptions"]
