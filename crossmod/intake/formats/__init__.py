"""NRRD, MetaImage and MGH: headers parsed field by field, voxels read within a budget."""
