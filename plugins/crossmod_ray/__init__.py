"""Tasks on Ray: a cluster of one's own on this machine, or one that runs on several."""

from crossmod_ray.engine import Ray
from crossmod_ray.options import RayOptions

__all__ = ["Ray", "RayOptions"]
