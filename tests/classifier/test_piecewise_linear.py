"""Whether a network is piecewise linear: one smooth part says no, wherever it is alive."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomadv.classifier import Classifier
from geomadv.classifier.smoothness import gradient_is_piecewise_constant, hessian_vanishes

SHAPE = (3, 8, 8)
Function = Callable[[Tensor], Tensor]


class Branches(nn.Module):
    """A ReLU network, and a number (n,) of the image that is added to its second score."""

    def __init__(self, branch: Function) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        s: Tensor = self.body(x)
        return s + self.branch(x)[:, None] * torch.eye(3).to(s)[1]


def mean(x: Tensor) -> Tensor:
    return x.mean((1, 2, 3))


def nothing(x: Tensor) -> Tensor:
    return x.new_zeros(len(x))


def colours(x: Tensor) -> tuple[Tensor, ...]:
    return x.mean((2, 3)).unbind(1)


def excited(opening: Function) -> Function:
    """Squeeze and excitation whose only hidden unit is alive where `opening` is positive."""
    return lambda x: mean(x) * torch.sigmoid(3 * F.relu(opening(x)) - 1)


def behind(opening: Function) -> Function:
    """A smooth branch that a ReLU closes where `opening` is negative."""
    return lambda x: F.relu(opening(x)) * torch.softmax(x.mean((2, 3)), 1)[:, 0]


OPENINGS: dict[str, Function] = {
    "dark": lambda x: 0.1 - mean(x),
    "bright": lambda x: mean(x) - 0.9,
    "red": lambda x: colours(x)[0] - colours(x)[1] - colours(x)[2] - 0.5,
    "yellow": lambda x: colours(x)[0] + colours(x)[1] - 2 * colours(x)[2] - 1.5,
    "spotted": lambda x: x[:, 0, :3, :3].mean((1, 2)) - x[:, 0].mean((1, 2)) - 0.1,
    "faint": lambda x: 0.03 - x.std((1, 2, 3)),
}
SMOOTH: dict[str, Function] = {
    **{f"excitation of {name} images": excited(opening) for name, opening in OPENINGS.items()},
    **{f"ReLU open at {name} images": behind(opening) for name, opening in OPENINGS.items()},
    # Saturated to rounding where the mean is 0.5 away: the slope of tanh(20) is 1e-17.
    "tanh saturated at most images": lambda x: torch.tanh(40 * (mean(x) - 0.95)),
    "sigmoid saturated at most images": lambda x: torch.sigmoid(100 * (0.05 - mean(x))),
    "weight of 1e-3": lambda x: 1e-3 * torch.tanh(mean(x)),
    "sharp attention": lambda x: (torch.softmax(60 * x.mean(3), 2) * x.mean(3)).sum((1, 2)),
    "product of hard gates": lambda x: mean(x) * F.hardsigmoid(mean(x) - 0.5),
}
LINEAR: dict[str, Function] = {
    "attention over one token": lambda x: torch.softmax(mean(x)[:, None], 1)[:, 0] * mean(x),
    "maxout": lambda x: x.unflatten(1, (1, 3)).amax(2).mean((1, 2, 3)),
    "clamp at the bounds": lambda x: mean(x.clamp(0, 1)),
    "PReLU": lambda x: mean(F.prelu(x - 0.5, torch.tensor([0.2]).to(x))),
    "max-pooling": lambda x: mean(F.max_pool2d(x, 2)),
    "median": lambda x: x.flatten(1).median(1).values,
    "hard tanh": lambda x: mean(F.hardtanh(9 * x, 0.0, 1.0)),
    "kinks at black": lambda x: mean(F.relu(x - x.flip(3))),
}


def net_of(branch: Function, bounds: tuple[float, float] = (0.0, 1.0)) -> Classifier:
    width = bounds[1] - bounds[0]
    return Classifier(Branches(branch), SHAPE, mean=bounds[0], std=width, bounds=bounds)


@pytest.mark.parametrize("name", SMOOTH)
def test_a_smooth_part_that_most_images_switch_off_is_found(name: str) -> None:
    assert not net_of(SMOOTH[name]).is_piecewise_linear


@pytest.mark.parametrize("name", LINEAR)
def test_kinks_alone_are_piecewise_linear(name: str) -> None:
    assert net_of(LINEAR[name]).is_piecewise_linear


@pytest.mark.parametrize("bounds", [(0.0, 255.0), (-1.0, 1.0), (0.0, 1e-3)])
def test_the_probe_follows_the_scale_of_the_images(bounds: tuple[float, float]) -> None:
    for name in ("ReLU open at dark images", "tanh saturated at most images"):
        assert not net_of(SMOOTH[name], bounds).is_piecewise_linear
    for name in ("maxout", "max-pooling"):
        assert net_of(LINEAR[name], bounds).is_piecewise_linear


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_images_of_any_number_of_channels_are_probed(channels: int) -> None:
    def net(gate: Function) -> Classifier:
        layers = [nn.Flatten(), nn.Linear(channels * 36, 6), nn.ReLU(), nn.Linear(6, 3)]

        class Gated(nn.Sequential):
            def forward(self, x: Tensor) -> Tensor:
                s: Tensor = super().forward(x)
                return s * (1 + gate(F.relu(mean(x) - 0.9)))[:, None]

        return Classifier(Gated(*layers), (channels, 6, 6))

    assert not net(torch.sigmoid).is_piecewise_linear
    assert net(lambda opened: 0 * opened).is_piecewise_linear


def test_networks_of_many_kinks_are_piecewise_linear() -> None:
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 1, 1)]
    layers += [nn.Conv2d(32, 16, 3, padding=1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    net = Classifier(nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3)), (3, 64, 64))
    assert net.is_piecewise_linear


@pytest.mark.parametrize(("passes", "constant"), [(1, True), (2, True), (3, False)])
def test_changes_in_a_row_are_curvature_and_less_are_kinks(passes: int, constant: bool) -> None:
    made = []

    def bent(at: Tensor) -> Tensor:
        made.append(at.requires_grad and len(at) == 2)  # Pairs of a point and one a step on.
        slope = torch.tensor([[0.0, 1.0]], dtype=at.dtype).repeat(len(at), 1)
        if sum(made) <= passes:
            slope[len(at) // 2 :] *= 2.0
        return at.flatten(1).sum(1, keepdim=True) * slope

    x = torch.rand(1, 1, 2, 2, dtype=torch.float64)
    assert gradient_is_piecewise_constant(bent, x, (0.0, 1.0)) == constant


def test_the_gradient_probe_on_closed_forms() -> None:
    x, bounds = torch.rand(3, 1, 2, 2, dtype=torch.float64), (0.0, 1.0)
    weight = torch.tensor([[1.0, -2.0, 3.0, 0.5], [0.0, 1.0, 1.0, -1.0]], dtype=torch.float64)

    def quadric(at: Tensor) -> Tensor:
        return at.flatten(1).square() @ weight.T

    for together in (1, 2, 9):
        assert gradient_is_piecewise_constant(lambda at: at.flatten(1) @ weight.T, x, bounds)
        assert gradient_is_piecewise_constant(
            lambda at: at.flatten(1).abs() @ weight.T, x, bounds, together
        )
        assert not gradient_is_piecewise_constant(quadric, x, bounds, together)
    with pytest.raises(RuntimeError, match="float32"):
        gradient_is_piecewise_constant(lambda at: at.flatten(1).float(), x, bounds)


@pytest.mark.parametrize("size", [0.0, 1.0, 1e6])
def test_the_hessian_probe_on_closed_forms(size: float) -> None:
    """In float32, beside a curve of that size which all scores share."""
    x, bounds = torch.rand(3, 1, 2, 2), (0.0, 1.0)
    # Of more than two scores, a contrast leaves a rounding of what they share.
    weight = torch.randn(7, 4)

    def shared(at: Tensor) -> Tensor:
        return size * at.square().mean((1, 2, 3))[:, None]

    def flat(at: Tensor) -> Tensor:
        return at.flatten(1) @ weight.T

    for together in (1, 2, 9):
        assert hessian_vanishes(lambda at: flat(at) + shared(at), x, bounds, together)
        assert hessian_vanishes(lambda at: flat(at.abs()) + shared(at), x, bounds, together)
        assert not hessian_vanishes(
            lambda at: flat(at) + max(size, 1) * flat(at).square() + shared(at), x, bounds, together
        )
    assert hessian_vanishes(flat, x, bounds)


@pytest.mark.parametrize("size", [1.0, 1e6])
def test_what_all_scores_share_decides_nothing(size: float) -> None:
    """It moves no boundary: curvature beside a shared slope counts, curvature in it does not."""
    shapes = {"slope": mean, "curve": lambda x: x.square().mean((1, 2, 3)), "none": nothing}
    for name, shared in shapes.items():

        def moved(module: nn.Module, shared: Function = shared) -> Classifier:
            class Shared(nn.Module):
                inner = module

                def forward(self, x: Tensor) -> Tensor:
                    return self.inner(x) + size * shared(x)[:, None]

            return Classifier(Shared(), SHAPE)

        assert moved(Branches(nothing)).is_piecewise_linear, name
        smooth = SMOOTH["tanh saturated at most images"]
        assert not moved(Branches(smooth)).is_piecewise_linear, name
