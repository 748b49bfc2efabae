"""The classifier refuses what would mislead, freezes what it takes, and keeps to its dtype."""

import copy
import hashlib
import io
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from geomadv.batching import activation_bytes, check_batch_size, default_batch_size
from geomadv.classifier import Classifier
from geomadv.errors import InputError

SHAPE = (1, 4, 4)
EPS = float(np.finfo(np.float32).eps)


class Formula(nn.Module):
    """Any function of images as a network without numbers of its own."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def mlp(*last: nn.Module, classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, classes)]
    return nn.Sequential(*layers, *last)


def convnet() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(216, 4))


def images(n: int = 5, shape: tuple[int, ...] = SHAPE, dtype: Any = torch.float32) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def sphere(radius: float = 1.0) -> nn.Module:
    """Scores (0, ||x||^2 - r^2)."""

    def scores(x: Tensor) -> Tensor:
        f = x.flatten(1).square().sum(1) - radius**2
        return torch.stack([torch.zeros_like(f), f], 1)

    return Formula(scores)


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
    "no class dimension": (lambda: Formula(lambda x: x.flatten(1)[:, 0]), r"gives \(4,\) for 4"),
    "feature maps": (nn.Identity, r"gives \(4, 1, 4, 4\) for 4 images"),
    "a tuple": (lambda: Formula(lambda x: (x, x)), "gives tuple for 4 images"),
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
    module.register_buffer("kept", module(images()).sum())
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


# The frozen copy


def test_the_original_is_left_alone() -> None:
    module = convnet().train()
    module[0].weight.requires_grad_(False)
    flags = [p.requires_grad for p in module.parameters()]
    state = copy.deepcopy(module.state_dict())
    net = Classifier(module, (3, 8, 8))
    net(images(shape=(3, 8, 8)))
    assert all(m.training for m in module.modules())
    assert [p.requires_grad for p in module.parameters()] == flags
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())


def test_later_changes_of_the_original_do_not_reach_the_copy() -> None:
    module, mean = convnet().train(), np.array([0.1, 0.2, 0.3])
    net = Classifier(module, (3, 8, 8), mean=mean, dtype=torch.float64)
    x = images(shape=(3, 8, 8), dtype=torch.float64)
    before, checksum = net(x), net.weights_sha256
    module.train()
    module(x.float())
    mean += 1
    with torch.no_grad():
        for p in module.parameters():
            p.add_(1)
    assert torch.equal(net(x), before)
    assert net.weights_sha256 == checksum
    assert torch.equal(net.to()(x), before)
    assert net.mean == (0.1, 0.2, 0.3)


def test_evaluation_mode_and_no_parameter_gradients() -> None:
    module = convnet().train()
    net = Classifier(module, (3, 8, 8))
    assert not any(m.training for m in net.module.modules())
    assert not any(p.requires_grad for p in net.module.parameters())
    x = images(shape=(3, 8, 8))
    # Float32 sums of 27, then 216 terms, the batch-norm folded: a few times 1e-6.
    torch.testing.assert_close(net(x), module.eval()(x), rtol=1e-5, atol=1e-5)
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("function", [lambda x: x.relu_(), lambda x: x.sub_(0.5).mul_(2)])
def test_modules_that_work_in_place_leave_the_images_alone(
    function: Callable[[Tensor], Tensor],
) -> None:
    net = Classifier(Formula(lambda x: function(x).flatten(1)), SHAPE)
    x = images() - 0.25
    before = x.clone()
    assert torch.equal(net(x), function(x.clone()).flatten(1))
    assert torch.equal(x, before)
    (g,) = torch.autograd.grad(net(x.requires_grad_()).sum(), x)
    assert g.shape == x.shape


def test_images_and_arrays_of_the_caller_are_not_changed(net: Classifier) -> None:
    x = images().numpy()
    before = x.copy()
    net(x), net.predict(x), net.check_images(x)
    np.testing.assert_array_equal(x, before)


# Normalisation


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (None, None),
        (0.3, None),
        (None, 0.5),
        ([0.4, 0.5, 0.6], [0.2, 0.3, 0.25]),
        (np.array([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25]).reshape(1, 3, 1, 1)),
    ],
)
def test_normalisation_is_inside(mean: Any, std: Any) -> None:
    shape = (3, 4, 4)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    net = Classifier(module, shape, mean=mean, std=std)
    m, s = (
        torch.as_tensor(default if v is None else v, dtype=torch.float64).reshape(1, -1, 1, 1)
        for v, default in ((mean, 0.0), (std, 1.0))
    )
    x = images(shape=shape, dtype=torch.float64).requires_grad_()
    z = ((x.detach() - m) / s).requires_grad_()
    # Float64 rounding of sums of 48 terms.
    torch.testing.assert_close(net(x), module(z), rtol=1e-12, atol=1e-12)
    (in_images,) = torch.autograd.grad(net(x)[:, 1].sum(), x)
    (in_units,) = torch.autograd.grad(module(z)[:, 1].sum(), z)
    torch.testing.assert_close(in_images, in_units / s, rtol=1e-12, atol=1e-12)
    assert (net.mean is None, net.std is None) == (mean is None, std is None)


def test_description() -> None:
    net = Classifier(
        mlp(), SHAPE, mean=0.5, std=[0.25], bounds=(-1, 1), class_names=("a", "b", "c"), name="n"
    )
    assert (net.input_shape, net.bounds, net.dimension, net.num_classes) == (SHAPE, (-1, 1), 16, 3)
    assert (net.mean, net.std, net.class_names) == ((0.5,), (0.25,), ("a", "b", "c"))
    assert (net.dtype, net.device) == (torch.float32, torch.device("cpu"))
    assert Classifier(mlp(), SHAPE).class_names == ("0", "1", "2")
    assert repr(net).startswith("Classifier('n', 3 classes, input (1, 4, 4), bounds (-1.0, 1.0)")


# Devices and precision


def test_precision_follows_the_module_and_the_argument() -> None:
    assert Classifier(mlp().double(), SHAPE)(images()).dtype == torch.float64
    assert Classifier(mlp(), SHAPE, dtype=torch.float64)(images()).dtype == torch.float64
    assert Classifier(mlp(), SHAPE)(images(dtype=torch.float64)).dtype == torch.float32


def test_single_and_double_precision_agree() -> None:
    net = Classifier(mlp(), SHAPE, mean=0.3, std=0.6, bounds=(0, 1), class_names="xyz", name="n")
    double = net.to(dtype=torch.float64)
    # Two layers: at most 16 + 12 rounded terms of size <= the largest sum of |weight|, about 4.
    torch.testing.assert_close(net(images()).double(), double(images()), rtol=0, atol=28 * 4 * EPS)
    for name in ("input_shape", "bounds", "class_names", "name", "mean", "std", "num_classes"):
        assert getattr(double, name) == getattr(net, name)
    assert (net.dtype, double.dtype) == (torch.float32, torch.float64)
    assert net.weights_sha256 != double.weights_sha256
    assert net.weights_sha256 == net.to().weights_sha256


def test_moved_classifiers_share_nothing(net: Classifier) -> None:
    other = net.to()
    before = net(images())
    with torch.no_grad():
        for p in other.module.parameters():
            p.add_(1)
    assert torch.equal(net(images()), before)
    assert not torch.equal(other(images()), before)


def test_a_formula_computes_in_the_dtype_of_the_images() -> None:
    net = Classifier(sphere(2.0), SHAPE, mean=0.1, std=0.3)
    for dtype in (torch.float32, torch.float64):
        x = images(dtype=dtype)
        scores = net(x)
        expected = ((x.double() - 0.1) / 0.3).flatten(1).square().sum(1) - 4
        assert scores.dtype == dtype
        # Mean and std are not rounded to float32 for float64 images: 16 terms, each <= 9.
        tolerance = 16 * 9 * torch.finfo(dtype).eps * 4
        torch.testing.assert_close(scores[:, 1].double(), expected, rtol=0, atol=tolerance)
    assert net.to()(images(dtype=torch.float64)).dtype == torch.float64
    assert net.to(dtype=torch.float64)(images()).dtype == torch.float64
    assert Classifier(sphere(), SHAPE, dtype=torch.float64)(images()).dtype == torch.float64
    assert not net.is_piecewise_linear


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_the_same_scores_and_labels() -> None:
    net = Classifier(mlp().double(), SHAPE, mean=0.3, std=0.6)
    cuda = net.to("cuda")
    assert (net.device.type, cuda.device.type) == ("cpu", "cuda")
    assert cuda(images()).device.type == "cuda"
    # Float64 sums of at most 16 terms of order 1.
    torch.testing.assert_close(cuda(images()).cpu(), net(images()), rtol=1e-13, atol=1e-13)
    assert torch.equal(cuda.predict(images()).cpu(), net.predict(images()))
    assert cuda.weights_sha256 == net.weights_sha256
    assert not cuda.is_piecewise_linear
    formula = Classifier(sphere(), SHAPE, device="cuda", std=0.5)
    assert formula(images()).device.type == "cuda"


# Checksums

_CHECKSUM = """
import torch
from torch import nn
from geomadv.classifier import Classifier
torch.manual_seed(0)
module = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))
print(Classifier(module, (1, 4, 4), mean=0.5).weights_sha256)
"""


def test_checksums_repeat_across_processes() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _CHECKSUM], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == Classifier(mlp(), SHAPE, mean=0.5).weights_sha256


def test_checksums_do_not_depend_on_the_file_format() -> None:
    from safetensors.torch import load, save

    state = convnet().state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    checksums = set()
    for loaded in (state, torch.load(file, weights_only=True), load(save(state))):
        module = convnet()
        module.load_state_dict(dict(reversed(loaded.items())))
        checksums.add(Classifier(module, (3, 8, 8)).weights_sha256)
    assert len(checksums) == 1


def test_checksums_tell_networks_apart() -> None:
    edited = mlp()
    nn.init.zeros_(edited.get_parameter("3.bias"))
    relu = mlp()
    relu[2] = nn.ReLU()
    net = Classifier(mlp(), SHAPE)
    nets = [
        net,
        Classifier(edited, SHAPE),
        Classifier(relu, SHAPE),
        Classifier(mlp(), SHAPE, mean=0.5),
        Classifier(mlp(), SHAPE, std=0.5),
        Classifier(mlp(), SHAPE, mean=0.5, std=0.5),
        net.to(dtype=torch.float64),
        net.to(dtype=torch.bfloat16),
        net.smoothed(10),
        net.smoothed(10.5),
    ]
    assert len({n.weights_sha256 for n in nets}) == len(nets)
    assert all(len(n.weights_sha256) == hashlib.sha256().digest_size * 2 for n in nets)


def test_checksums_see_buffers_that_are_not_saved() -> None:
    class Shifted(nn.Module):
        shift: Tensor

        def __init__(self, shift: float) -> None:
            super().__init__()
            self.register_buffer("shift", torch.tensor(shift), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) + self.shift

    one, two = (Classifier(Shifted(shift), SHAPE).weights_sha256 for shift in (1.0, 2.0))
    assert one != two


# Batches


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 9), seed=st.integers(0, 2**16), double=st.booleans())
def test_an_image_has_the_same_scores_in_every_batch(n: int, seed: int, double: bool) -> None:
    dtype = torch.float64 if double else torch.float32
    net = Classifier(convnet(), (3, 8, 8), mean=[0.4, 0.5, 0.6], std=0.25, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 3, 8, 8, generator=generator, dtype=dtype)
    together = net(x)
    alone = torch.cat([net(row[None]) for row in x])
    # Sums of 27 and of 216 terms of order 1, in any order.
    tolerance = 243 * torch.finfo(dtype).eps
    torch.testing.assert_close(alone, together, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("batch_size", [None, 1, 3, 7, 100])
def test_predictions_in_batches_equal_predictions_at_once(batch_size: int | None) -> None:
    net = Classifier(convnet().double(), (3, 8, 8))
    x = images(7, (3, 8, 8))
    labels = net.predict(x, batch_size)
    assert labels.dtype == torch.int64
    assert torch.equal(labels, net(x).argmax(1))
    assert not labels.requires_grad


@pytest.mark.parametrize("batch_size", [0, -1])
def test_impossible_batch_sizes_are_refused(net: Classifier, batch_size: int) -> None:
    with pytest.raises(InputError, match=f"batch_size={batch_size} must be at least 1"):
        net.predict(images(), batch_size)
    with pytest.raises(InputError, match="batch_size"):
        check_batch_size(batch_size, net)
    assert check_batch_size(3, net) == 3
    assert check_batch_size(None, net) == default_batch_size(net)


def test_activation_bytes_of_a_closed_form() -> None:
    # exp keeps its result, the square its argument: 16 float32 each and image.
    x = images(2)
    assert activation_bytes(lambda at: at.exp().square(), x[:1], x) == 2 * 16 * 4
    # Weights are kept once, whatever the batch: only the linear layer's input does not need them.
    layer = nn.Linear(16, 3).requires_grad_(False)
    assert activation_bytes(lambda at: layer(at.flatten(1)), x[:1], x) == 16 * 4


def test_memory_per_image_is_measured_without_gradient_mode() -> None:
    measured = Classifier(convnet(), (3, 8, 8)).bytes_per_image
    for context in (torch.no_grad, torch.inference_mode):
        net = Classifier(convnet(), (3, 8, 8))
        with context():
            assert net.bytes_per_image == measured
    # At least the ReLU's output of 6 x 6 x 6 float32.
    assert measured >= 216 * 4
    double = Classifier(convnet(), (3, 8, 8), dtype=torch.float64)
    assert double.bytes_per_image == pytest.approx(2 * measured, rel=0.2)


def test_the_default_batch_follows_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Classifier(convnet(), (3, 8, 8))
    for size, expected in ((1, 128), (2**26, 4), (2**40, 1)):
        monkeypatch.setitem(net.__dict__, "bytes_per_image", size)
        assert default_batch_size(net) == expected
