"""Networks as people write them, with what is right for each: a table that several tests walk.

Every entry builds a small module anew. `expected` is "works", or a word of the `InputError` that
refuses it; `note` is a word of `Classifier.note` where the network is adapted. `same` says that
scores and gradients equal those of the module itself, called with gradients in its own dtype.
"""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from odd_forwards import (
    Counting,
    DoubleHead,
    FunctionalNorm,
    HalfBody,
    Kept,
    Masked,
    NoBackward,
    Twisted,
    autocast,
    batch_mean,
    branch_detached,
    branch_no_grad,
    class_detached,
    grad_dependent,
    guided,
    in_place,
    inference,
    raw_order,
    squeezed_inside,
    standardised,
    strided_view,
    through_numpy,
    uint8_inside,
    with_lock,
    without_gradient,
)
from odd_layers import (
    ClippedNorm,
    Doubling,
    HiddenLayers,
    NamedTwice,
    Patches,
    Recurrent,
    StandardisedConv,
    Tied,
    Trades,
    View,
    compiled_part,
    dead,
    frozen_script,
    grouped,
    hooked,
    hooked_block,
    instance_forward,
    lazy,
    norms,
    parametrised,
    pruned,
    quantised,
    scripted,
    settle,
    small,
    spectral_norm,
    traced,
    transposed,
    weight_norm,
    weights_as_buffers,
    with_forward,
)
from published_cifar import Shape
from published_networks import PUBLISHED
from torch import Tensor, nn

from geomadv import Classifier


@dataclass(frozen=True)
class Odd:
    build: Callable[[], nn.Module]
    shape: Shape = (3, 12, 12)
    bounds: tuple[float, float] = (0.0, 1.0)
    expected: str = "works"
    note: str = ""
    same: bool = True
    options: dict[str, Any] = field(default_factory=dict)  # of Classifier


@contextlib.contextmanager
def quiet() -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


WORKS = {
    "tutorial view": Odd(View, (3, 20, 20), note="channels-last"),
    "trades": Odd(Trades, (1, 28, 28), note="channels-last"),
    "plain": Odd(small),
    "relu": Odd(lambda: small(act=nn.ReLU)),
    "weight-standardised": Odd(
        lambda: nn.Sequential(
            StandardisedConv(3, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(), nn.Linear(600, 5)
        ),
    ),
    "convolution subclass": Odd(
        lambda: nn.Sequential(Doubling(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(600, 5))
    ),
    "norm subclass": Odd(
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), ClippedNorm(6), nn.Flatten(), nn.Linear(600, 5))
    ),
    "hook on norm": Odd(hooked(1)),
    "hook on convolution": Odd(hooked(0)),
    "pre-hook on norm": Odd(hooked(1, "pre")),
    "pre-hook on convolution": Odd(hooked(0, "pre")),
    "hook on block": Odd(hooked_block),
    "forward of an instance": Odd(instance_forward),
    "old weight norm": Odd(lambda: weight_norm(old=True)),
    "weight norm": Odd(lambda: weight_norm(old=False)),
    "old spectral norm": Odd(lambda: spectral_norm(old=True)),
    "spectral norm": Odd(lambda: spectral_norm(old=False)),
    "parametrisation": Odd(parametrised),
    "pruned": Odd(pruned),
    "tied": Odd(Tied),
    "named twice": Odd(NamedTwice),
    "attention": Odd(lambda: Patches(own=True)),
    "encoder layers": Odd(lambda: Patches(own=False)),
    "gru": Odd(lambda: Recurrent(nn.GRU), (3, 4, 12)),
    "lstm": Odd(lambda: Recurrent(nn.LSTM), (3, 4, 12)),
    "layers in a list": Odd(HiddenLayers),
    "grouped, dilated": Odd(grouped),
    "group and layer norm": Odd(norms),
    "transposed convolution": Odd(transposed),
    "as_strided": Odd(with_forward(strided_view), note="channels-last"),
    "order of memory": Odd(with_forward(raw_order), note="channels-last"),
    "in place on the input": Odd(with_forward(in_place)),
    "standardised images": Odd(with_forward(standardised)),
    "masked": Odd(lambda: Masked(-1e9)),
    "masked, offset": Odd(lambda: Masked(-1e4, 1e4)),
    "cut classes": Odd(with_forward(lambda body, x: body(x)[:, :3])),
    "scaled classes": Odd(
        with_forward(lambda body, x: body(x) * 10.0 ** torch.arange(-3, 2).to(x))
    ),
    "tiny scores": Odd(with_forward(lambda body, x: 1e-20 * body(x))),
    "large scores": Odd(with_forward(lambda body, x: 1e20 * body(x))),
    "thousand classes": Odd(lambda: small(1000)),
    "two classes": Odd(lambda: small(2)),
    "not square": Odd(small, (3, 9, 20)),
    "bounds 0..255": Odd(with_forward(lambda body, x: body(x / 255)), bounds=(0.0, 255.0)),
    "bounds -1..1": Odd(small, bounds=(-1.0, 1.0)),
    "one channel": Odd(
        lambda: settle(
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(400, 5))
        ),
        (1, 12, 12),
    ),
    "kept features": Odd(Kept),
    "counter": Odd(lambda: Counting(moving=False)),
    "data parallel": Odd(lambda: nn.DataParallel(small())),
    "compiled": Odd(lambda: torch.compile(small()), same=False),
    "compiled part": Odd(compiled_part, note="uncompiled", same=False),
    "scripted": Odd(scripted),
    "traced": Odd(traced),
    "frozen script": Odd(frozen_script),
    "dead": Odd(dead),
    "weights as buffers": Odd(weights_as_buffers),
    "permuted": Odd(
        with_forward(lambda body, x: body(x.permute(0, 2, 3, 1).flip(1).permute(0, 3, 1, 2)))
    ),
    "checkpointed": Odd(
        with_forward(
            lambda body, x: torch.utils.checkpoint.checkpoint(body, x, use_reentrant=False)
        )
    ),
    "mean of passes": Odd(with_forward(lambda body, x: (body(x) + body(x.flip(-1))) / 2)),
    "comparison masks": Odd(with_forward(lambda body, x: body(x * (x > 0.5).float()))),
    "double": Odd(lambda: small().double()),
    "double scores": Odd(with_forward(lambda body, x: body(x).double()), same=False),
    "double head": Odd(DoubleHead, same=False),
    "half": Odd(lambda: small().half(), note="float16", same=False),
    "bfloat16": Odd(lambda: small().bfloat16(), note="bfloat16", same=False),
    "half body": Odd(lambda: HalfBody(torch.float16), note="float16", same=False),
    "bfloat16 body": Odd(lambda: HalfBody(torch.bfloat16), note="bfloat16", same=False),
    "autocast": Odd(with_forward(autocast), note="autocast", same=False),
    "half and back": Odd(
        with_forward(lambda body, x: body(x.half().float())), note="casts", same=False
    ),
    "half scores": Odd(with_forward(lambda body, x: body(x).half()), note="casts", same=False),
    "half by name": Odd(
        with_forward(lambda body, x: body(x.type("torch.HalfTensor").type("torch.FloatTensor"))),
        note="casts",
        same=False,
    ),
    "squeezed scores": Odd(with_forward(lambda body, x: body(x).squeeze()), note="alone"),
    "squeezed inside": Odd(with_forward(squeezed_inside), note="alone"),
    "lazy": Odd(lazy, note="lazy", same=False),
    **{name: Odd(**entry) for name, entry in PUBLISHED.items()},
}

REFUSED = {
    "no_grad": Odd(with_forward(without_gradient), expected="no_grad"),
    "inference_mode": Odd(with_forward(inference), expected="inference_mode"),
    "detached": Odd(with_forward(lambda body, x: body(x.detach())), expected="detach"),
    "data": Odd(with_forward(lambda body, x: body(x.data)), expected="data"),
    "numpy": Odd(with_forward(through_numpy), expected="detach"),
    "numpy without detach": Odd(
        with_forward(lambda body, x: torch.from_numpy(body(x).numpy())), expected="numpy"
    ),
    "list": Odd(with_forward(lambda body, x: torch.tensor(body(x).tolist())), expected="tolist"),
    "uint8 inside": Odd(with_forward(uint8_inside), expected="whole numbers"),
    "one-hot": Odd(
        with_forward(lambda body, x: F.one_hot(body(x).argmax(1), 5).float() * 3),
        expected="whole numbers",
    ),
    "rounded": Odd(with_forward(lambda body, x: (body(x) * 100).round()), expected="steps"),
    "quantised": Odd(quantised, expected="quantised"),
    "class detached": Odd(with_forward(class_detached), expected="class 3"),
    "branch detached": Odd(with_forward(branch_detached), expected="detach"),
    "branch without gradient": Odd(with_forward(branch_no_grad), expected="no_grad"),
    "other backward": Odd(with_forward(lambda body, x: body(Twisted.apply(x))), expected="slopes"),
    "no backward": Odd(
        with_forward(lambda body, x: body(NoBackward.apply(x))), expected="without a gradient"
    ),
    "gradient mode": Odd(with_forward(grad_dependent), expected="gradient mode"),
    "guided backward": Odd(guided, expected="hooks on gradients"),
    "constant scores": Odd(
        with_forward(lambda body, x: body[7].bias.expand(len(x), 5)),  # type: ignore[index]
        expected="do not depend on the image",
    ),
    "noise, masked": Odd(lambda: Masked(-1e9, noise=1e-3), expected="not deterministic"),
    "noise, offset": Odd(lambda: Masked(0, 1e4, noise=1e-1), expected="not deterministic"),
    "dropout": Odd(
        with_forward(lambda body, x: body(F.dropout(x, 0.01, training=True))),
        expected="not deterministic",
    ),
    "batch mean": Odd(with_forward(batch_mean), expected="mixes the images"),
    "batch mean, masked": Odd(
        with_forward(lambda b, x: F.pad(batch_mean(b, x), (0, 5), value=-1e9)),
        expected="mixes the images",
    ),
    "training norm": Odd(lambda: FunctionalNorm(keep=False), expected="mixes the images"),
    "training norm with statistics": Odd(lambda: FunctionalNorm(keep=True), expected="changes m"),
    "norm without statistics": Odd(
        lambda: nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), small()),
        expected="batch-norm without running statistics",
    ),
    "moving average": Odd(lambda: Counting(moving=True), expected="changes average"),
    "a lock": Odd(with_lock, expected="cannot be copied"),
    "softmax": Odd(with_forward(lambda body, x: body(x).softmax(1)), expected="probabilities"),
    "half softmax": Odd(
        lambda: nn.Sequential(small(), nn.Softmax(1)).half(), expected="probabilities"
    ),
}

ODD: dict[str, Odd] = {**WORKS, **REFUSED}


def built(name: str) -> nn.Module:
    """The module of an entry, in evaluation mode: always the same numbers."""
    torch.manual_seed(7)
    with quiet():
        return ODD[name].build().eval()


@functools.cache
def classifier(name: str) -> Classifier:
    odd = ODD[name]
    return Classifier(built(name), odd.shape, bounds=odd.bounds, name=name, **odd.options)


def original(name: str) -> Callable[[Tensor], Tensor]:
    """Images to scores, by the module alone."""
    module, options = built(name), ODD[name].options

    def scores(x: Tensor) -> Tensor:
        mean, std = (
            torch.tensor(options.get(k, d)).view(-1, 1, 1) for k, d in (("mean", 0.0), ("std", 1.0))
        )
        found = module((x - mean.to(x)) / std.to(x)) if "mean" in options else module(x)
        return found[options["output"]] if "output" in options else found

    return scores
