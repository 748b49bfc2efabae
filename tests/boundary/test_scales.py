"""Geometry does not depend on the scale of scores, on what they share, or on masked classes."""

import networks_for_tests as nets
import pytest
import torch
from networks_for_tests import SHAPE, Perceptron, gaussian
from torch import Tensor, nn

from geomadv.boundary import boundary_gradient, boundary_points
from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.perturbations import deepfool


class Changed(nn.Module):
    """Scores of a perceptron, multiplied, shifted, with some classes set to a constant."""

    def __init__(self, scale: float = 1.0, offset: float = 0.0, mask: float | None = None) -> None:
        super().__init__()
        self.inner = Perceptron(6, 16, 8, seed=0)
        self.scale, self.offset, self.mask = scale, offset, mask

    def forward(self, x: Tensor) -> Tensor:
        scores = self.inner(x) * self.scale + self.offset
        if self.mask is None:
            return scores[:, :5]
        return torch.cat([scores[:, :5], torch.full_like(scores[:, 5:], self.mask)], dim=1)


def changed(dtype: torch.dtype = torch.float32, **how: float) -> Classifier:
    return nets.classifier(Changed(**how), dtype=dtype, bounds=(-4.0, 4.0))


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    return gaussian(40, *SHAPE, seed=3, dtype=dtype).clamp(-4, 4)


@pytest.mark.parametrize("mask", [-1e3, -1e4, -1e6, -1e9, -1e30])
def test_masked_classes_take_no_part(mask):
    x = images()
    expected, found = deepfool(changed(), x), deepfool(changed(mask=mask), x)
    torch.testing.assert_close(found.delta, expected.delta, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.label, expected.label)
    plain, masked = boundary_points(changed(), x), boundary_points(changed(mask=mask), x)
    assert masked.converged.all()
    torch.testing.assert_close(masked.distance, plain.distance, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(masked.normals, plain.normals, rtol=0, atol=1e-3)
    # 1e-5 of |f| at the image, which is of order 1, or some roundings of scores of order 1.
    assert masked.residual.max() <= 5e-5


@pytest.mark.parametrize("power", [-30, -20, -10, 10, 20, 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scale_of_the_scores(power, dtype):
    x = images(dtype)
    rtol = 1e-5 if dtype == torch.float32 else 1e-12
    expected, found = deepfool(changed(dtype), x), deepfool(changed(dtype, scale=10.0**power), x)
    assert found.converged.all()
    torch.testing.assert_close(found.delta, expected.delta, rtol=rtol, atol=rtol)
    plain = boundary_points(changed(dtype), x, nearest=True)
    scaled = boundary_points(changed(dtype, scale=10.0**power), x, nearest=True)
    assert torch.equal(scaled.converged, plain.converged)
    lengths = scaled.normals[scaled.converged].double().norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=0, atol=1e-6)
    torch.testing.assert_close(scaled.distance, plain.distance, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-43, 1e42])
def test_scales_that_the_dtype_does_not_hold_are_refused_and_float64_holds_them(scale):
    with pytest.raises(InputError, match=r"float64|non-finite"):
        deepfool(changed(scale=scale), images())
    wide = deepfool(changed(torch.float64, scale=scale), images(torch.float64))
    assert wide.converged.all()


@pytest.mark.parametrize("offset", [1e2, 1e4, -1e4, 1e5])
def test_what_all_scores_share_costs_only_their_last_places(offset):
    x = images()
    expected, found = deepfool(changed(), x), deepfool(changed(offset=offset), x)
    same = found.label == expected.label
    assert same.float().mean() >= 0.9
    points, plain = boundary_points(changed(offset=offset), x), boundary_points(changed(), x)
    _, gradient, _ = boundary_gradient(changed(), plain.points, plain.source, plain.target)
    # f is known to eps * offset; the walk ends where it exceeds 4 of these, by a step of up to 8,
    # and a step before it may have been as wrong.
    error = 20 * torch.finfo(torch.float32).eps * abs(offset) / gradient.norm(dim=1)
    assert torch.all((found.norm - expected.norm).abs()[same] <= error[same])
    assert torch.all((points.distance - plain.distance).abs()[same] <= error[same])


def test_an_offset_that_drowns_the_differences_is_refused():
    with pytest.raises(InputError, match=r"have in common.*float64"):
        deepfool(changed(offset=1e8), images())


class BiasFree(nn.Module):
    """Scores W x, whose regions all meet at x = 0."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", gaussian(4, 6, seed=2))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_black_image_on_a_network_without_biases_lies_on_the_boundary(dtype):
    net = nets.classifier(BiasFree(), dtype=dtype, bounds=(0.0, 1.0))
    found = deepfool(net, torch.zeros(1, *SHAPE, dtype=dtype))
    assert found.converged.all()
    assert found.iterations.item() <= 2
    assert found.norm.item() <= 100 * torch.finfo(dtype).eps
    points = boundary_points(net, torch.zeros(1, *SHAPE, dtype=dtype))
    assert points.converged.all()
    assert points.distance.item() <= 100 * torch.finfo(dtype).eps
