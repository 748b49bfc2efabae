"""What a module does when it is tried out: beyond the bounds, by chance, with others' layers."""

import copy
from collections.abc import Callable
from threading import Thread

import pytest
import torch
import torch.nn.functional as F
from test_classifier import SHAPE, Formula, images, mlp
from torch import Tensor, nn

import geomadv as ga
from geomadv.classifier import Classifier
from geomadv.errors import InputError


class First(nn.Sequential):
    """A network with a formula before it."""

    def __init__(self, formula: Callable[[Tensor], Tensor]) -> None:
        super().__init__(*mlp())
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.formula(x))


def largest(x: Tensor) -> Tensor:
    return x.amax((1, 2, 3), keepdim=True)


def smallest(x: Tensor) -> Tensor:
    return x.amin((1, 2, 3), keepdim=True)


JUMPS: dict[str, Callable[[Tensor], Tensor]] = {
    "8 bits, by batch": lambda x: x / 255 if x.max() > 1 else x,
    "8 bits, by image": lambda x: torch.where(largest(x) > 1, x / 255, x),
    "from -1 to 1": lambda x: (x + 1) / 2 if x.min() < 0 else x,
}
CONTINUOUS: dict[str, Callable[[Tensor], Tensor]] = {
    "clipped": lambda x: x.clamp(0, 1),
    "a kink at the bound": lambda x: x + 5 * F.relu(x - 1) + 5 * F.relu(-x),
    "standardised": lambda x: (
        (x - x.mean((1, 2, 3), keepdim=True)) / (0.1 + x.std((1, 2, 3), keepdim=True))
    ),
    "stretched": lambda x: (x - smallest(x)) / (largest(x) - smallest(x) + 0.1),
    "a root, NaN below": lambda x: x**2.2,
    "steep": lambda x: x / (x.abs() + 1e-6),
    "a logarithm": lambda x: x.clamp(min=1e-12).log() / 10,
}


@pytest.mark.parametrize("case", JUMPS)
def test_scores_that_jump_at_the_bounds_are_refused(case: str) -> None:
    with pytest.raises(InputError, match=r"as soon as a pixel leaves the bounds \(0.0, 1.0\)"):
        Classifier(First(JUMPS[case]), SHAPE)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("case", CONTINUOUS)
def test_scores_that_bend_at_the_bounds_are_taken(case: str, bounds: tuple[float, float]) -> None:
    assert not Classifier(First(CONTINUOUS[case]), SHAPE, std=bounds[1], bounds=bounds).note


def test_rounding_of_scores_that_hardly_depend_on_the_image_is_no_jump() -> None:
    torch.manual_seed(566)
    for _ in range(20):
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(16, 56), nn.Sigmoid()]
        for _ in range(3):
            layers += [nn.Linear(56, 56), nn.Sigmoid()]
        for layer in layers[1::2]:
            layer.weight.data *= 0.1  # type: ignore[operator, union-attr]
        assert Classifier(nn.Sequential(*layers, nn.Linear(56, 8)), SHAPE, bounds=(-1, 1))


@pytest.mark.parametrize("threshold", [1.5, 2.0])
def test_a_threshold_of_the_batch_beyond_the_bounds_is_refused(threshold: float) -> None:
    with pytest.raises(InputError, match=r"alone and in a batch: .* maximum"):
        Classifier(First(lambda x: x / 255 if x.max() > threshold else x), SHAPE)


def test_a_forward_that_asks_for_the_range_says_what_to_change() -> None:
    def within(x: Tensor) -> Tensor:
        assert x.max() <= 1, "pixels above 1"
        return x

    with pytest.raises(InputError, match=r"fails where pixels are around 1.0001: pixels above 1"):
        Classifier(First(within), SHAPE)


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_chance_that_most_passes_do_not_show_is_refused(share: float) -> None:
    """Each image keeps its scores in 98 % of passes: over 200 of images, 2 % of runs miss it."""

    def drop(x: Tensor) -> Tensor:
        return x * (torch.rand(len(x), 1, 1, 1) > share)

    for seed in range(3):
        torch.manual_seed(seed)
        with pytest.raises(InputError, match=r"not deterministic"):
            Classifier(First(drop), SHAPE)


def test_random_numbers_without_effect_are_noted() -> None:
    net = Classifier(First(lambda x: x + 0 * torch.rand_like(x)), SHAPE)
    assert "draws random numbers (rand_like); the scores of 8 images were the same" in net.note
    told = Classifier(nn.Sequential(nn.RReLU(), mlp()), SHAPE).note
    assert told == ""


def test_classes_of_equal_scores_are_noted() -> None:
    module = mlp()
    twice = Formula(lambda x: module(x)[:, [0, 1, 2, 0]])
    assert "classes 0 and 3 have equal scores" in Classifier(twice, SHAPE).note
    assert not Classifier(module, SHAPE).note


def test_sigmoids_are_noted() -> None:
    assert "scores are sigmoids" in Classifier(mlp(nn.Sigmoid()), SHAPE).note


# Functions that hold layers


class Held(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.body = mlp()
        last = self.body[-1]
        if how == "a lambda of self":
            self.function = lambda x: self.body(x)
        elif how == "a default argument":
            self.function = lambda x, body=self.body: body(x)
        elif how == "a keyword":
            self.function = lambda x, *, body=self.body: body(x)
        elif how == "in a list":
            self.function = None
            self.steps = [lambda x: self.body(x)]
        elif how == "a decorated forward":
            forward = self.body.forward
            self.body.forward = lambda x: forward(2 * x - 1)
            self.function = self.body
        elif how == "itself":

            def function(x: Tensor, n: int = 2) -> Tensor:
                return self.body(x) if n == 0 else function(x.tanh(), n - 1)

            self.function = function
        elif how == "a shared variable":
            seen = torch.zeros(1, 3)

            def reads(x: Tensor) -> Tensor:
                nonlocal seen
                seen = self.body(x)
                return seen

            self.reads = reads
            self.function = lambda x: self.reads(x) + seen
        else:
            self.body[0].register_forward_hook(lambda m, i, o: o + last.weight.mean())
            self.function = self.body

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x) if self.function is not None else self.steps[0](x)


HELD = ("a lambda of self", "a default argument", "a keyword", "in a list", "a decorated forward")


@pytest.mark.parametrize("how", [*HELD, "itself", "a shared variable", "a hook"])
def test_functions_that_hold_layers_hold_those_of_the_copy(how: str) -> None:
    module, x = Held(how).eval(), images()
    with torch.no_grad():
        expected = module(x)
    net = Classifier(module, SHAPE)
    double = net.to(dtype=torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(-1)
    torch.testing.assert_close(net(x), expected)
    torch.testing.assert_close(double(x).float(), expected)
    assert net.note == ""


def test_layers_of_the_callers_that_no_copy_reaches_are_refused() -> None:
    module = mlp()
    global LAST
    LAST = module[-1]
    module[0].register_forward_hook(_reads_a_global)
    with pytest.raises(InputError, match=r"calls layers of the module that it was copied from"):
        Classifier(module, SHAPE)


LAST: nn.Module


def _reads_a_global(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> Tensor:
    del module, given
    weight: Tensor = LAST.weight  # type: ignore[assignment]
    return result + weight.mean()


def test_a_constant_that_is_a_buffer_too_is_no_layer_of_the_callers() -> None:
    constant = torch.full((1, 4, 4), 0.5)
    module = First(lambda x: x - constant)
    module.register_buffer("mean", constant)
    assert not Classifier(module, SHAPE).note


# Transformer layers


class Encoder(nn.Module):
    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(4, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, activation, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x[:, 0])).mean(1))


@pytest.mark.parametrize("activation", [nn.GELU("tanh"), nn.GELU(), nn.ReLU()], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_transformer_layers_are_one_function(activation: nn.Module, dtype: torch.dtype) -> None:
    net, x = Classifier(Encoder(activation), SHAPE, dtype=dtype), images().to(dtype)
    with torch.no_grad():
        without = net(x)
    # A few roundings: both are the same calls.
    torch.testing.assert_close(net(x.requires_grad_()), without, rtol=0, atol=1e-6)
    module = copy.deepcopy(Encoder(activation)).to(dtype).eval()
    torch.testing.assert_close(module(x), without, rtol=0, atol=1e-5)
    assert ga.boundary_points(net, x.detach()).converged.all()


def test_threads_leave_the_fused_layers_as_they_were() -> None:
    net, x = Classifier(mlp(), SHAPE), images()
    before = torch.backends.mha.get_fastpath_enabled()
    threads = [Thread(target=lambda: [net.scores(x) for _ in range(200)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.backends.mha.get_fastpath_enabled() == before
