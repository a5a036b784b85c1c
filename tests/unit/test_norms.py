"""Instance normalization with its activation, beside torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crossmod.torch import InstanceNorm

SHAPES = [(1, 3, 6, 5), (3, 5, 4, 7), (1, 4, 6, 5, 4), (2, 3, 4, 4, 6)]
LAYOUTS = [torch.contiguous_format, "channels last"]


def laid_out(tensor: torch.Tensor, layout: object) -> torch.Tensor:
    last = torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d
    return tensor.contiguous(memory_format=last if layout == "channels last" else layout)


def both(shape: tuple[int, ...], affine: bool, slope: float) -> tuple[nn.Module, nn.Module]:
    """Ours, and torch's layers with the same weights."""
    kind = nn.InstanceNorm2d if len(shape) == 4 else nn.InstanceNorm3d
    ours, theirs = InstanceNorm(shape[1], affine=affine, slope=slope), kind(shape[1], affine=affine)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, 1.0)
    theirs.load_state_dict(ours.state_dict())
    return ours, nn.Sequential(theirs, nn.LeakyReLU(slope))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("affine", "slope"), [(True, 0.01), (False, 0.0), (False, 1.0)])
@pytest.mark.parametrize("number", [torch.float64, torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_torch(shape, layout, affine, slope, number):
    """Within ten roundings of the format: sums of few values, and a division by their spread.

    Near zero the activation may bend on either side, so nothing is asked there.
    """
    torch.manual_seed(3)
    full = torch.float32 if number == torch.bfloat16 else number
    ours, theirs = (network.to(full) for network in both(shape, affine, slope))
    given, upstream = ((torch.randn(shape) + add).to(number) for add in (2, 0))
    upstream[theirs[0](given.to(full)).abs() < 0.05] = 0
    found = []
    for network, used in ((ours, number), (theirs, full)):
        features = laid_out(given.to(used), layout).detach().requires_grad_()
        result = network(features)
        result.backward(laid_out(upstream.to(used), layout))
        found.append([result, features.grad, *(one.grad for one in network.parameters())])
    for one, other in zip(*found, strict=True):
        size = max(float(other.detach().abs().max()), 1.0)
        limit = 10 * size * torch.finfo(number).eps
        assert torch.allclose(one.to(full), other, rtol=0, atol=limit)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("affine", [True, False])
def test_gradients_are_right_and_can_be_differentiated_again(shape, layout, affine):
    """As a penalty on gradients needs."""
    torch.manual_seed(4)
    network = InstanceNorm(shape[1], affine=affine, slope=0.2).double()
    features = laid_out(torch.randn(shape, dtype=torch.float64), layout).requires_grad_()
    assert torch.autograd.gradcheck(network, (features,))
    assert torch.autograd.gradgradcheck(network, (features,))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
def test_layout_and_format_stay(shape, layout, number):
    features = laid_out(torch.randn(shape, dtype=number), layout)
    result = InstanceNorm(shape[1], affine=True, slope=0.2)(features)
    assert result.stride() == features.stride()
    assert result.dtype == number


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_item_has_the_same_bits_in_every_batch(layout):
    network = InstanceNorm(5, slope=0.0)
    features = laid_out(torch.randn(3, 5, 9, 7), layout)
    alone = torch.cat([network(item) for item in features.split(1)])
    assert torch.equal(network(features), alone)


def test_weights_have_the_names_of_torch():
    names = nn.InstanceNorm3d(2, affine=True).state_dict().keys()
    assert InstanceNorm(2, affine=True).state_dict().keys() == names
    assert not InstanceNorm(2).state_dict()


def test_one_voxel_cannot_be_normalized():
    with pytest.raises(ValueError, match="more than 1"):
        InstanceNorm(2)(torch.zeros(1, 2, 1, 1))
