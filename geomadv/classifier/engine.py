"""The fast engine of a network, built and compared with the plain module before it is used.

Three things make it fast: batch-norms folded into convolutions, the gradient of the first
convolution as one matrix product, and channels-last weights. Each can fail on a network that does
something unusual (`view` behind a convolution, hooks, choices that a trace fixes). The engine is
used only where it repeats scores and a gradient of the module on images of several kinds, one at
a time and together; otherwise the part that fails is left out.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from geomadv.classifier.folding import fold_batch_norm
from geomadv.classifier.gradient_paths import Gradient, gradient_of, gradients_differ
from geomadv.classifier.image_conv import ImageConv2d, use_image_convolutions
from geomadv.classifier.normalised import Normalised, copied, has_hooks, numbers
from geomadv.classifier.probes import ORDERS, Probes, allowance, scores_differ

# Orders of the sums of a second derivative, as shares of its largest entry.
_HESSIAN_AGREES = {torch.float32: 1e-3, torch.float64: 1e-8}


def fast_engine(
    module: Normalised, images: Tensor, scores: Tensor, gradient: Gradient
) -> tuple[nn.Module, str]:
    """The fastest form that computes what the module computes, and what was left out, if anything.

    images: (n, C, H, W), on which the module gives `scores` (n, classes); gradient: the module's.
    """
    failed: list[str] = []
    for what, engine in _forms(module):
        reason = _difference(engine, module, images, scores, gradient)
        if not reason:
            return engine, f"evaluated {what} ({failed[0]})" if failed else ""
        failed.append(reason)
    return module, f"evaluated as the plain module ({failed[0]})"


def _forms(module: Normalised) -> Iterator[tuple[str, nn.Module]]:
    """Engines from the fastest on, each with what is left out of it."""
    inner = module.module
    wide = _prefers_channels_last(module)
    folded = fold_batch_norm(inner)
    if folded is not inner:
        if wide:
            yield "", _engine(module, folded, channels_last=True)
            folded = fold_batch_norm(inner)
        yield "without channels-last weights", _engine(module, folded, channels_last=False)
    what = "without folding" if folded is not inner else ""
    if wide:
        yield what, _engine(module, copied(inner, numbers(inner)), channels_last=True)
    what = f"{what} and channels-last weights" if what else "without channels-last weights"
    yield what, _engine(module, copied(inner, numbers(inner)), channels_last=False)


def _prefers_channels_last(module: nn.Module) -> bool:
    """Whether it has convolutions of several channels whose kernels read them next to each other.

    In float64 a CPU computes grouped convolutions one group at a time and copies each out of that
    layout: gradients of MobileNet (v1) and EfficientNet-lite0 took twice as long.
    """
    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    apart = any(
        m.groups > 1 and m.weight.dtype == torch.float64 and m.weight.device.type == "cpu"
        for m in layers
    )
    return not apart and any(m.in_channels > 1 for m in layers)


def _engine(module: Normalised, inner: nn.Module, channels_last: bool) -> nn.Module:
    """inner: other layers around the same numbers, which become the engine's."""
    engine = module.around(inner)
    use_image_convolutions(engine)
    if channels_last:
        _use_channels_last(engine)
    return engine


def _use_channels_last(module: nn.Module) -> None:
    """Channels-last convolutions are faster for most networks, on CPU as on CUDA."""
    made: dict[int, nn.Parameter] = {}
    for layer in module.modules():
        if type(layer) not in (nn.Conv2d, ImageConv2d) or has_hooks(layer):
            continue
        weight = layer._parameters["weight"]
        if weight is not None and not weight.requires_grad:
            if id(weight) not in made:
                # The weights of the plain module keep their layout.
                dense = weight.detach().clone(memory_format=torch.channels_last)
                made[id(weight)] = nn.Parameter(dense, requires_grad=False)
            layer._parameters["weight"] = made[id(weight)]


def _difference(
    engine: nn.Module, module: nn.Module, images: Tensor, scores: Tensor, gradient: Gradient
) -> str:
    """In what the engine differs from the module; "" if in nothing but rounding."""
    allowed = allowance(scores, ORDERS)
    try:
        with torch.no_grad():
            wrong = scores_differ(engine(images), scores, allowed).any(1)
            if wrong.any() and not _is_rounding(module, images, scores, allowed, wrong):
                return "it gave other scores"
            if scores_differ(engine(images[:1]), scores[:1], allowed[:1]).any():
                return "it gave other scores for an image alone"
        found, slope = gradient_of(engine, gradient.x, gradient.weights)
    except Exception as error:  # foreign code on another layout may raise anything
        return str(error).strip().split("\n")[0]
    if scores_differ(found, gradient.scores, allowed[gradient.rows]).any():
        return "it gave other scores where gradients are taken"
    return "it gave another gradient" if gradients_differ(slope, gradient.value) else ""


def _is_rounding(
    module: nn.Module, images: Tensor, scores: Tensor, allowed: Tensor, wrong: Tensor
) -> bool:
    """Whether the scores of the wrong images are rounding in the module itself.

    A norm of each image turns rounding of constant images into features.
    """
    if wrong[: Probes.GENERIC].any():
        return False
    sign = torch.randn(images.shape, generator=torch.Generator().manual_seed(5)).sign()
    eps = torch.finfo(images.dtype).eps * images.abs().amax()
    moved = module(images + 2 * eps * sign.to(images))
    return bool(scores_differ(moved, scores, allowed).any(1)[wrong].all())


def hessian_difference(
    engine: nn.Module, module: nn.Module, x: Tensor, weights: Tensor, v: Tensor
) -> str:
    """In what products of the weighted scores' Hessians at x with v differ; "" if in nothing.

    x: (n, C, H, W); weights: (n, classes); v: (1, C, H, W). A module without second derivatives
    is not at odds with its engine.
    """
    try:
        expected = _hessian_product(module, x, weights, v)
    except RuntimeError:
        return ""
    try:
        found = _hessian_product(engine, x, weights, v)
    except RuntimeError as error:
        return str(error).strip().split("\n")[0]
    apart = (found - expected).abs().amax()
    same = bool(apart <= _HESSIAN_AGREES[x.dtype] * expected.abs().amax())
    return "" if same else "it gave another second derivative"


def _hessian_product(network: nn.Module, x: Tensor, weights: Tensor, v: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        value = (network(x) * weights).sum()
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        if gradient.grad_fn is None:
            return torch.zeros_like(x)
        (product,) = torch.autograd.grad(gradient, x, v.expand_as(gradient), materialize_grads=True)
    return product
