"""Tasks on Ray: on a private cluster on this machine, or on a running cluster."""

from crossmod_ray.engine import Ray
from crossmod_ray.options import RayOptions

__all__ = ["Ray", "RayOptions"]
