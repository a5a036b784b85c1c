from crossmod.options import Options


class RayOptions(Options):
    """Options of the Ray engine."""
