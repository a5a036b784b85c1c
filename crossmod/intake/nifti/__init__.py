"""NIfTI files from outside: header, voxels, geometry, and what can be mended."""
