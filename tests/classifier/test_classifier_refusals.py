"""Networks, descriptions and images that would mislead are refused, those beside them taken."""

import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_classifier import EPS, SHAPE, Formula, images, mlp
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointFunction, checkpoint, checkpoint_sequential

from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.networks import load_network

# Networks that are refused


def half_poisoned() -> nn.Module:
    module = mlp()
    nn.init.constant_(module.get_parameter("3.bias"), float("inf"))
    return module


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "softmax": (lambda: mlp(nn.Softmax(1)), r"'mine' gives probabilities.*without its softmax"),
    "functional softmax": (
        lambda: Formula(lambda x: x.flatten(1).softmax(1)),
        r"probabilities.*softmax",
    ),
    "saturated softmax": (
        lambda: Formula(lambda x: (1e4 * x).flatten(1).softmax(1)),
        "probabilities",
    ),
    "log-softmax": (lambda: mlp(nn.LogSoftmax(1)), r"log-probabilities.*without its log-softmax"),
    "dropout kept active": (
        lambda: Formula(lambda x: F.dropout(x.flatten(1), training=True)),
        r"different scores for the same images.*Remove noise or dropout",
    ),
    "noise": (
        lambda: Formula(lambda x: x.flatten(1) + 1e-3 * torch.randn(16)),
        "not deterministic",
    ),
    "batch-norm without running statistics": (
        lambda: nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), mlp()),
        r"alone and in a batch.*per-image",
    ),
    "scores minus the batch mean": (
        lambda: Formula(lambda x: x.flatten(1) - x.flatten(1).mean(0)),
        "alone and in a batch",
    ),
    "one score": (lambda: mlp(classes=1), r"single score.*torch.cat\(\[-s, s\], 1\)"),
    "infinite weights": (half_poisoned, r"non-finite scores\. Check its weights"),
    "no class dimension": (lambda: Formula(lambda x: x.flatten(1)[:, 0]), r"gives \(8,\) for 8"),
    "feature maps": (nn.Identity, r"gives \(8, 1, 4, 4\) for 8 images"),
    "a tuple": (lambda: Formula(lambda x: (x, x)), r"gives tuple \('0' \(8, 1, 4, 4\).*output"),
    "whole batch in one": (lambda: Formula(lambda x: x.flatten()[None]), r"gives \(1, \d+\)"),
    "predicted classes": (lambda: Formula(lambda x: x.flatten(1).long()), "int64.*floating"),
    "other input shape": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, 2)),
        r"does not take images of input_shape=\(1, 4, 4\) in torch.float32",
    ),
    "other channels": (lambda: nn.Sequential(nn.Conv2d(3, 2, 1)), r"does not take images"),
    "an error of its own": (lambda: Formula(lambda x: {"scores": x}["missing"]), "missing"),
    "a failed assertion": (
        lambda: Formula(lambda _: _fail()),
        "does not take images.*224",
    ),
}


def _fail() -> None:
    raise AssertionError("images must be 224 wide")


@pytest.mark.parametrize("case", REFUSED)
def test_misleading_networks_are_refused(case: str) -> None:
    build, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        Classifier(build(), SHAPE, name="mine")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_softmax_is_told_from_small_scores_in_every_precision(dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match="probabilities"):
        Classifier(mlp(nn.Softmax(1)), SHAPE, dtype=dtype)
    # Three scores >= 0 whose sum is 0.9.
    small = mlp(nn.Sigmoid(), nn.Threshold(2.0, 0.3))
    assert Classifier(small, SHAPE, dtype=dtype).num_classes == 3


def test_scores_that_only_resemble_probabilities_pass() -> None:
    # Sigmoids do not sum to 1; logits may all be positive, or all negative.
    for last in (nn.Sigmoid(), nn.Softplus(), nn.LogSigmoid()):
        assert Classifier(mlp(last), SHAPE).num_classes == 3


def shares(z: Tensor) -> Tensor:
    """A softmax that calls none."""
    e = (z - z.amax(1, keepdim=True)).exp()
    return e / e.sum(1, keepdim=True)


PERCENTAGES: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "percent": (lambda z: 100 * z.softmax(1), "gives 100 times its prob"),
    "from -1 to 1": (lambda z: 2 * torch.softmax(z, 1) - 1, "gives 2 times"),
    "negative": (lambda z: -F.softmax(z, dim=1), "gives -1 times"),
    "8 bits": (lambda z: shares(z) * 255, "gives 255 times"),
    "in place, shifted": (lambda z: z.softmax(1).mul_(7).add_(30), "gives 7 times"),
    "per pixel": (lambda z: 3 * z[:, :, None].softmax(1).squeeze(2), "gives 3 times"),
    "less the mean": (lambda z: (lambda p: p - p.mean(1, keepdim=True))(z.softmax(1)), "1 times"),
    "one of two": (
        lambda z: 10 * torch.stack([z[:, 0].sigmoid(), 1 - z[:, 0].sigmoid()], 1),
        "gives 10 times",
    ),
    "hottest": (lambda z: 50 * (9 * z).log_softmax(1).exp(), "gives 50 times"),
    "without one class": (lambda z: (9 * z).softmax(1)[:, 1:], "gives 1 times its prob"),
    "logarithm, kept off 0": (
        lambda z: ((9 * z).softmax(1) + 1e-3).log(),
        "gives logarithms of 1 times its prob",
    ),
}


class Last(nn.Sequential):
    """A network with a formula behind it."""

    def __init__(self, formula: Callable[[Tensor], Tensor]) -> None:
        super().__init__(mlp())
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(super().forward(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", PERCENTAGES)
def test_probabilities_in_other_units_are_refused(case: str, dtype: torch.dtype) -> None:
    formula, message = PERCENTAGES[case]
    with pytest.raises(InputError, match=message + r".*softmax is among its last steps"):
        Classifier(Last(formula), SHAPE, name="mine", dtype=dtype)


@pytest.mark.parametrize(
    "formula",
    [
        lambda z: z - z.mean(1, keepdim=True),
        lambda z: z - z.mean(1, keepdim=True) + 1e3,
        lambda z: 5 * z.log_softmax(1),
        lambda z: z * z.softmax(1),
        lambda z: torch.stack([z[:, 0] - 9, 9 - z[:, 0]], 1),
        lambda z: z + z.softmax(1).detach().mean(1, keepdim=True),
    ],
)
def test_scores_of_a_constant_sum_are_logits(formula: Callable[[Tensor], Tensor]) -> None:
    assert not Classifier(Last(formula), SHAPE).note


@pytest.mark.parametrize("change", [lambda z: z + 3000, lambda z: 1e-4 * z], ids=["offset", "tiny"])
def test_gates_inside_are_no_outputs_whatever_the_scores_are(change) -> None:
    """Rows of probabilities and sigmoids inside, of which some may look like the scores."""
    for seed in range(8):
        torch.manual_seed(seed)
        last, gate, pool = nn.Linear(16, 3), nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(x: Tensor, last=last, gate=gate, pool=pool) -> Tensor:
            h = x.flatten(1)
            return change(last(h * gate(h).sigmoid() * pool(h).softmax(1)))

        assert not Classifier(Formula(forward), SHAPE).note


def test_shares_that_cannot_be_proven_are_noted() -> None:
    net = Classifier(Last(lambda z: 40 * z.pow(2) / z.pow(2).sum(1, keepdim=True)), SHAPE)
    assert "shares of 40" in net.note


CHECKPOINTED: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "all of it": lambda net, x: checkpoint(net, x, use_reentrant=True),
    "some of it": lambda net, x: net(x) + checkpoint(net, 1 - x, use_reentrant=True),
    "a function": lambda net, x: net(checkpoint(torch.tanh, x, use_reentrant=True)),
    "in segments": lambda net, x: checkpoint_sequential(net, 2, x, use_reentrant=True),
    "the Function": lambda net, x: CheckpointFunction.apply(net, False, x),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", CHECKPOINTED)
def test_reentrant_checkpointing_is_named_with_its_remedy(case: str) -> None:
    class Checkpointed(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return CHECKPOINTED[case](self[0], x)

    with pytest.raises(InputError, match=r"re-entrant checkpointing.*use_reentrant=False"):
        Classifier(Checkpointed(mlp()), SHAPE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (4, 4)}, r"input_shape=\(4, 4\) must be \(channels, height, width\)"),
        ({"input_shape": (8, 1, 4, 4)}, "without a batch dimension"),
        ({"input_shape": (0, 4, 4)}, "input_shape"),
        ({"input_shape": (1, 4.5, 4)}, "whole numbers"),
        ({"input_shape": 4}, "input_shape=4"),
        ({"mean": [0.1, 0.2]}, "mean has 2 entries for images of 1 channels"),
        ({"mean": float("nan")}, "mean=nan must be finite"),
        ({"mean": (0.1, None)}, "mean=.*must be one number"),
        ({"mean": "grey"}, "mean='grey' must be one number"),
        ({"std": 0.0}, r"std=0\.0 must be finite and > 0"),
        ({"std": -1}, "std=-1 must be finite and > 0"),
        ({"std": [1.0, 2.0, 3.0]}, "std has 3 entries"),
        ({"bounds": (1.0, 0.0)}, r"bounds=\(1\.0, 0\.0\).*low < high"),
        ({"bounds": (0.0, 0.0)}, "low < high"),
        ({"bounds": (0.0, float("inf"))}, "finite"),
        ({"bounds": (float("nan"), 1.0)}, "bounds"),
        ({"bounds": (0.0,)}, "bounds"),
        ({"bounds": 255}, "bounds=255"),
        ({"class_names": ["cat", "dog"]}, "class_names has 2 names.*3 scores per image"),
        ({"dtype": torch.int64}, r"dtype=torch\.int64 must be a floating type"),
        ({"dtype": "float64"}, "dtype='float64' must be a floating type"),
    ],
)
def test_bad_descriptions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Classifier(mlp(), **{"input_shape": SHAPE, **options})


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(InputError, match=r"module is a str.*load_network"):
        Classifier("lenet-mnist", SHAPE)  # type: ignore[arg-type]


def test_a_module_that_cannot_be_copied_is_refused() -> None:
    module = mlp()
    module.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(InputError, match="cannot be copied"):
        Classifier(module, SHAPE)


# Images that are refused


@pytest.fixture(scope="module")
def net() -> Classifier:
    return Classifier(mlp(), SHAPE, name="mine")


def test_a_forgotten_batch_dimension_is_named(net: Classifier) -> None:
    with pytest.raises(InputError, match=r"shape \(1, 4, 4\).*\(N, 1, 4, 4\).*images\[None\]"):
        net(images()[0])


@pytest.mark.parametrize("shape", [(5, 4, 4), (5, 1, 4, 5), (5, 3, 4, 4), (5, 16), ()])
def test_other_shapes_are_refused(net: Classifier, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=re.escape(f"shape {shape}") + r".*takes \(N, 1, 4, 4\)"):
        net(torch.zeros(shape))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda x: (x * 255).round(), "[0, 255]"),
        (lambda x: (x - 0.1307) / 0.3081, "[-0.424, 2.82]"),
        (lambda x: 2 * x - 1, "[-1, 1]"),
    ],
)
def test_images_outside_the_bounds_are_refused_with_both_ranges(
    net: Classifier, make: Callable[[Tensor], Tensor], found: str
) -> None:
    x = images()
    x[0, 0, 0, 0], x[0, 0, 0, 1] = 0, 1
    message = re.escape(f"images span {found}, outside bounds [0, 1] of network 'mine'")
    for call in (net, net.predict, net.check_images):
        with pytest.raises(InputError, match=message + ".*un-normalised"):
            call(make(x))


def test_bounds_are_the_users() -> None:
    net = Classifier(mlp(), SHAPE, mean=128, std=64, bounds=(0, 255))
    assert net((images() * 255).round()).shape == (5, 3)
    assert net.bounds == (0.0, 255.0)
    with pytest.raises(InputError, match=r"outside bounds \[0, 255\]"):
        net(images() * 1000)


def test_perturbed_images_may_leave_the_bounds_clean_ones_may_not(net: Classifier) -> None:
    x = images()
    x[0, 0, 0, 0], x[1, 0, 0, 0] = -0.3, 1.3
    assert net(x).shape == (5, 3)
    assert net.predict(x).shape == (5,)
    assert net.scores(100 * x).shape == (5, 3)
    with pytest.raises(InputError, match=r"span \[-0\.3, 1\.3\]"):
        net.check_images(x)


def test_rounding_does_not_make_clean_images_unclean(net: Classifier) -> None:
    x = images()
    x[0, 0, 0, 0], x[1, 0, 0, 0] = -EPS, 1 + EPS
    assert net.check_images(x) is x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: (x * 255).to(torch.uint8), r"torch\.uint8.*images / 255"),
        (lambda x: x > 0.5, r"torch\.bool"),
        (lambda x: x[:0], "empty"),
        (lambda x: x.numpy().astype(object), "array of object"),
    ],
)
def test_other_kinds_of_images_are_refused(
    net: Classifier, make: Callable[[Tensor], Any], message: str
) -> None:
    for call in (net, net.predict, net.check_images):
        with pytest.raises(InputError, match=message):
            call(make(images()))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_pixels_are_counted_and_located(net: Classifier, value: float) -> None:
    x = images()
    x[2, 0, 1, 1] = x[4, 0, 0, 0] = value
    for call in (net, net.check_images, lambda at: net.predict(at, batch_size=1)):
        with pytest.raises(InputError, match=r"2 of 5 contain NaN or infinite.*number 2\."):
            call(x)


def test_non_finite_scores_are_refused_with_their_number() -> None:
    net = Classifier(Formula(lambda x: x.flatten(1).clamp(min=0).sqrt().log()), SHAPE)
    x = images()
    x[1] = 0
    for call in (net, net.predict):
        with pytest.raises(InputError, match=r"non-finite scores on 1 of 5 images"):
            call(x)


def test_arrays_of_every_layout_are_taken(net: Classifier) -> None:
    x = images().numpy()
    expected = net(x)
    readonly = x.copy()
    readonly.flags.writeable = False
    flipped = np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    for same in (readonly, flipped, x.astype(np.float64), list(x)):
        torch.testing.assert_close(net(same), expected, rtol=0, atol=0)


def test_objects_with_images_are_taken(net: Classifier) -> None:
    class Holder:
        images = images()

    assert torch.equal(net(Holder()), net(Holder.images))


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", 3.5])
def test_devices_that_are_not_there_are_refused_by_name(net: Classifier, device: Any) -> None:
    for make in (
        lambda: Classifier(mlp(), SHAPE, device=device),
        lambda: net.to(device=device),
        lambda: load_network("digits-cnn", device=device),
    ):
        with pytest.raises(InputError, match=r"device=.* \(--device\): .*Expected cpu, cuda or"):
            make()
