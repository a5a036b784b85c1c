"""The planner against plans made by nnU-Net's rules."""

import pytest
from crossmod_unet3d import UNet3DOptions
from crossmod_unet3d.plan import make_plan

GOLDEN = [
    ((1.0, 0.6, 0.6), (80, 256, 256), 210, (64, 192, 192), 6, (3, 3, 3)),
    ((1.0, 0.6, 0.6), (60, 256, 256), 210, (48, 224, 224), 6, (3, 3, 3)),
    ((1.5, 0.6, 0.6), (48, 256, 256), 210, (40, 224, 224), 6, (1, 3, 3)),
    ((1.0, 0.4, 0.4), (80, 384, 384), 210, (40, 224, 224), 6, (1, 3, 3)),
    ((1.0, 1.0, 1.0), (32, 64, 64), 20, (32, 64, 64), 5, (3, 3, 3)),
]


@pytest.mark.parametrize(("spacing", "shape", "cases", "patch", "stages", "first"), GOLDEN)
def test_golden_plan(spacing, shape, cases, patch, stages, first):
    plan = make_plan(spacing, shape, cases=cases, classes=2, options=UNet3DOptions())
    assert plan.patch == patch
    assert plan.batch == 2
    assert len(plan.strides) == len(plan.kernels) == len(plan.channels) == stages
    assert plan.kernels[0] == first


@pytest.mark.parametrize(("spacing", "shape", "cases", "patch", "stages", "first"), GOLDEN)
def test_order_of_axes_does_not_matter(spacing, shape, cases, patch, stages, first):
    plan = make_plan(spacing[::-1], shape[::-1], cases=cases, classes=2, options=UNet3DOptions())
    assert plan.patch == patch[::-1]
    assert plan.kernels[0] == first[::-1]


THICK = [
    ((1.0, 0.6, 0.6), (64, 192, 192), None),  # three times as long, not more
    ((1.0, 0.4, 0.4), (40, 224, 224), 0),
    ((0.4, 0.4, 1.0), (224, 224, 40), 2),
    ((0.4, 1.0, 0.4), (224, 40, 224), 1),
    ((1.0, 0.5, 0.5), (96, 32, 128), None),  # thin, but not along the largest voxel edge
    ((1.0, 1.0, 1.0), (128, 128, 32), 2),  # of equal edges the slices' counts
    ((1.0, 1.0, 1.0), (32, 128, 128), None),
]


@pytest.mark.parametrize(("spacing", "patch", "thick"), THICK)
def test_patches_are_thin_along_the_largest_voxel_edge_only(spacing, patch, thick):
    options = UNet3DOptions(patch=patch)
    plan = make_plan(spacing, patch, cases=20, classes=2, options=options)
    assert plan.patch == patch
    assert plan.thick_axis == thick
