"""The geometry of odd networks against plain references that call the module itself."""

import functools

import pytest
import torch
from odd_networks import WORKS, classifier
from published_networks import PUBLISHED
from torch import Tensor
from walks_for_tests import plain_walk

from geomadv import Classifier, InputError, boundary_points, deepfool, mean_hessian
from geomadv.boundary import BoundaryPoints

JUMPS = {"comparison masks"}
# An offset of the scores in whose rounding the distances to the boundary drown.
DROWNED = "masked, offset"
SHARP = [name for name in WORKS if name != DROWNED]


def images(name: str) -> Tensor:
    net = classifier(name)
    x = torch.rand(3, *net.input_shape, generator=torch.Generator().manual_seed(3))
    return (net.bounds[0] + (net.bounds[1] - net.bounds[0]) * x).to(net.dtype)


@functools.cache
def points(name: str) -> BoundaryPoints:
    return boundary_points(classifier(name), images(name))


def gradient(net: Classifier, x: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """Of F_far - F_near by the module alone, (n, D)."""
    x = x.detach().requires_grad_()
    scores = net.module(x)
    f = scores.gather(1, far[:, None]) - scores.gather(1, near[:, None])
    return torch.autograd.grad(f.sum(), x)[0].flatten(1)


def test_distances_that_drown_in_an_offset_are_refused():
    with pytest.raises(InputError, match="have in common"):
        deepfool(classifier(DROWNED), images(DROWNED))


@pytest.mark.parametrize("name", [name for name in SHARP if name not in PUBLISHED])
def test_deepfool_walks_as_published(name):
    net, x = classifier(name), images(name)
    found = deepfool(net, x)
    for i in range(len(x)):
        delta, steps = plain_walk(net.module, x[i])
        # In float32 a step's rounding, some 1e-6, may decide whether a walk needs one more; beside
        # kinks it may lead elsewhere, which long walks amplify.
        if steps <= 5 and steps == int(found.iterations[i]):
            error = (found.delta[i].flatten().double() - delta).norm()
            assert error <= 1e-3 * delta.norm() + 1e-6, (i, steps)
        else:
            assert abs(float(found.norm[i] / delta.norm()) - 1) < 0.1 or steps > 5


@pytest.mark.parametrize("name", SHARP)
def test_boundary_points_lie_on_the_boundary_with_the_modules_normals(name):
    net, x, p = classifier(name), images(name), points(name)
    found = deepfool(net, x)
    assert torch.all(p.converged <= found.converged)
    # Where scores jump there may be no point with f = 0 on the way.
    assert name in JUMPS or torch.equal(p.converged, found.converged)
    assert name not in PUBLISHED or p.converged.all()
    x, p = x[p.converged], p[p.converged]
    with torch.no_grad():
        start, scores = net.module(x).topk(2, dim=1).values, net.module(p.points)
    top, second = scores.topk(2, dim=1).values.T
    rounding = torch.finfo(net.dtype).eps * (4 * top.abs() + 4 * x.flatten(1).norm(dim=1))
    # 1e-5 of f at the image, or roundings of the scores and of sums over pixels (slopes below 2).
    assert torch.all(top - second <= 1e-5 * (start[:, 0] - start[:, 1]) + rounding)
    g = gradient(net, p.points, p.near, p.target)
    cosine = (g / g.norm(dim=1, keepdim=True) * p.normals).sum(1)
    assert torch.all(cosine > 1 - 1e-5)


@pytest.mark.parametrize("name", SHARP)
def test_one_hessian_product(name):
    net, p = classifier(name), points(name)
    if name in PUBLISHED:
        net = net.to(dtype=torch.float64)
        p = boundary_points(net, images(name))
    if not p.converged.any():
        assert not deepfool(net, images(name)).converged.any()
        return
    p = p[p.converged]
    # Smoothness is measured at eight points, which a batch of eight takes in one pass.
    p = p[torch.arange(8) % len(p)]
    H = mean_hessian(net, p)
    v = torch.randn(net.dimension, generator=torch.Generator().manual_seed(5)).to(net.dtype)
    v /= v.norm()
    step = 1e-3 * (net.bounds[1] - net.bounds[0]) if H.step is None else H.step
    shift = step * v.reshape(1, *net.input_shape)
    ahead, behind = (gradient(net, p.points + s * shift, p.near, p.target) for s in (1, -1))
    expected = ((ahead - behind) / (2 * step)).double().mean(0)
    product = torch.from_numpy(H @ v.numpy()).double()
    # Rounding of the gradients over the step, and for exact products the truncation h^2.
    noise = 100 * torch.finfo(net.dtype).eps * float(ahead.norm(dim=1).max()) / step
    allowed = 1e-3 if net.dtype == torch.float64 else 2e-2
    assert (product - expected).norm() <= allowed * expected.norm() + noise
