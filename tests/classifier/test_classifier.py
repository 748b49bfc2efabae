"""The classifier freezes what it takes, keeps to its dtype, and cuts images into batches."""

import copy
import hashlib
import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from geomadv.classifier import Classifier
from geomadv.classifier.batching import activation_bytes
from geomadv.classifier.normalised import copied
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


@pytest.fixture(scope="module")
def net() -> Classifier:
    return Classifier(mlp(), SHAPE, name="mine")


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


def test_a_copy_keeps_what_its_layers_share_and_shares_nothing_with_the_original() -> None:
    one, two, record = nn.Linear(4, 4), nn.Linear(4, 4), []
    two.weight = one.weight
    one.seen = two.seen = record
    made = copied(nn.Sequential(one, nn.ReLU(), one, two))
    assert made[0] is made[2]
    assert made[0].weight is made[3].weight
    assert made[0].seen is made[3].seen
    assert (made[0] is one, made[0].weight is one.weight, made[0].seen is record) == (False,) * 3
    assert torch.equal(made[0].weight, one.weight)
    assert repr(made[0]) == repr(one)
    made[0].register_forward_hook(lambda *_: None)
    assert not one._forward_hooks


def test_the_first_network_does_not_wait_for_torchs_compiler() -> None:
    script = (
        "import sys, torch, geomadv\n"
        "net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))\n"
        "geomadv.Classifier(net, (1, 2, 2))\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


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
        net.batch_size(batch_size)
    assert net.batch_size(3) == 3
    assert net.batch_size(None) == net.batch_size()


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
        assert net.batch_size() == expected
