"""Boundary points of a class's region: where the class meets the closest of all others."""

import networks_for_tests as nets
import pytest
import torch
from networks_for_tests import SHAPE, gaussian, quick_lenet
from torch import Tensor, nn

from geomadv import load_images, load_network
from geomadv.boundary import boundary_points
from geomadv.curvature.products import check_points
from geomadv.perturbations import deepfool


def margin(net, points: Tensor, target: int) -> Tensor:
    """F_c - max of the others (N,)."""
    scores = net.scores(points)
    others = torch.cat([scores[:, :target], scores[:, target + 1 :]], dim=1)
    return scores[:, target] - others.amax(1)


@pytest.mark.parametrize("classes", [3, 8, 30])
def test_on_linear_networks_the_point_is_on_the_region_and_no_farther_than_the_pairs(classes):
    weight, bias = gaussian(classes, 6, seed=classes), gaussian(classes, seed=1)
    net, x = nets.linear(weight, bias), 3 * gaussian(60, *SHAPE, seed=2)
    for target in (0, classes - 1):
        p = boundary_points(net, x, target=target)
        out = p.source != target
        assert torch.equal(p.converged, out)
        # Tolerance 1e-10 of |f| at the image, some 10 here.
        assert margin(net, p.points[out], target).abs().max() < 1e-8
        assert torch.all(p.target == target)
        pair = boundary_points(net, x, target=target, boundary="pair")
        seen = out & pair.converged & ~pair.third
        assert torch.all(p.distance[seen] <= pair.distance[seen] * (1 + 1e-9))
        # The exact pair's distance bounds the region's from below.
        assert torch.all(p.distance[out] >= pair.distance[out] * (1 - 1e-9))


def test_the_pair_that_meets_gives_the_normal():
    weight, bias = gaussian(9, 6, seed=4), gaussian(9, seed=5)
    net, x = nets.linear(weight, bias), 3 * gaussian(80, *SHAPE, seed=6)
    p = boundary_points(net, x, target=2)
    p = p[p.converged]
    assert (p.near != p.source).any()
    w = weight[p.target] - weight[p.near]
    torch.testing.assert_close(p.normals, w / w.norm(dim=1, keepdim=True), rtol=0, atol=1e-9)
    scores = net.scores(p.points)
    tops = scores.topk(2, dim=1).values
    torch.testing.assert_close(scores.gather(1, p.near[:, None])[:, 0], tops[:, 0])
    assert len(check_points(net, p)) == len(p)


def test_walks_to_the_region_end_where_the_target_is_predicted():
    net, x = nets.perceptron(classes=8), gaussian(60, *SHAPE)
    r = deepfool(net, x, target=5, region=True)
    assert torch.equal(r.converged, net.scores(r.adversarial).argmax(1) == 5)
    pair = deepfool(net, x, target=5)
    assert r.converged.sum() > pair.converged.sum()


class Islands(nn.Module):
    """Class 1 only within a ball around a centre, flat scores elsewhere: no gradient leads in."""

    centre: Tensor

    def __init__(self, centre: Tensor) -> None:
        super().__init__()
        self.register_buffer("centre", centre)

    def forward(self, x: Tensor) -> Tensor:
        inside = torch.relu(1 - (x.flatten(1) - self.centre).norm(dim=1))
        return torch.stack([0.5 + 0 * inside, inside, 0 * inside], dim=1)


def test_an_image_of_the_class_leads_where_gradients_do_not():
    centre = torch.full((6,), 3.0, dtype=torch.float64)
    net = nets.classifier(Islands(centre))
    x = torch.cat([gaussian(5, *SHAPE), centre.reshape(1, *SHAPE)])
    alone = boundary_points(net, x[:5], target=1)
    assert not alone.converged.any()
    p = boundary_points(net, x, target=1)
    assert torch.equal(p.converged, torch.tensor([True] * 5 + [False]))
    # The island's edge is at 1 - r = 0.5.
    far = (x[:5].flatten(1) - centre).norm(dim=1)
    torch.testing.assert_close(p.distance[:5], far - 0.5)
    torch.testing.assert_close(p.near[:5], torch.zeros(5, dtype=torch.int64))


@pytest.mark.parametrize(
    ("name", "data", "count"),
    [
        ("digits-cnn", "digits", 100),
        ("lenet-mnist", "mnist", 100),
        ("mnist-convsmall-robust-eps0.3", "mnist", 60),
        ("cifar10-convsmall-robust-linf8", "cifar10", 100),
    ],
)
def test_hardly_an_image_is_lost_on_real_networks(name, data, count, real_data):
    net = quick_lenet(name) if name == "lenet-mnist" else load_network(name, progress=False)
    x = load_images(data, split="test", limit=count, progress=False).images
    for target in (0, 4):
        p = boundary_points(net, x, target=target)
        out = p.source != target
        assert p.converged[out].float().mean() >= 0.95
        assert not p.converged[~out].any()
        # 1e-5 of |f| at the image; accepted roundings are some times larger at most.
        found = out & p.converged
        f = margin(net, p.points[found], target).abs()
        start = margin(net, x[found], target).abs()
        assert (f / start).median() <= 1e-4
