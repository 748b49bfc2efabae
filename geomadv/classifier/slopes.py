"""Whether the gradient of the scores is their slope: central differences say so.

A part of the scores may be detached, a layer may bring a derivative of its own, and rounding or
thresholds may pass gradients straight through: then gradients exist and lead astray.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomadv.classifier.gradient_paths import Gradient, Scores, gradient_of
from geomadv.classifier.normalised import copied
from geomadv.classifier.probes import REPEATS, allowance, class_spread
from geomadv.errors import InputError

# Steps of the derivative check, as shares of what the scores vary by.
_SHARES = (1e-7, 1e-3, 1e-2, 1e-1)
# Without a suspicion a slope may be off by a factor 2 (kinks, curvature); with one, by 10 %, if
# float64 cannot tell.
_LOOSE, _STRICT, _ACROSS = 0.5, 0.1, 0.3
# Steps in float64, as shares of the largest pixel, that rarely meet a kink; and what a slope may be
# off by there, of an ordinary one.
_TINY, _EXACT = (1e-7, 2e-7), 1e-3
_STEPS = "the scores are steps (rounding, thresholds, quantisation)"
_MOST_CLASSES = 64
# Longest step, as a share of the range of the pixels.
_STEP, _HALVINGS = 0.01, 20


def check_derivative(
    scores: nn.Module, module: nn.Module, gradient: Gradient, all_scores: Tensor, name: str
) -> None:
    """The gradient must be the slope of the scores: central differences along it say so.

    Where something in the forward raises a doubt, random directions and single classes must, too,
    and in float64 to 1e-3.

    scores: computes the same as the module, perhaps faster.

    Raises:
        InputError: it is not: a part of it is cut off or changed.
    """
    if _is_staircase(scores, gradient):
        raise InputError(
            f"network {name!r} gives gradients that are not the slopes of its scores: {_STEPS}. "
            "Give the network without them."
        )
    if not gradient.value.any():
        gradient = replace(gradient, doubt=f"all gradients are zero: {_STEPS}")
    if gradient.doubt:
        _check_classes(scores, gradient, name)
    exact = _slopes_are_exact(module, gradient) if gradient.doubt else None
    if exact or (exact is None and _roughly_agree(scores, module, gradient, all_scores)):
        return
    cause = gradient.doubt or f"a part of it is cut off or changed, or {_STEPS}"
    raise InputError(
        f"network {name!r} gives gradients that are not the slopes of its scores: {cause}. "
        "Every result here stands on them; let the forward be differentiable in its input."
    )


def _roughly_agree(
    scores: nn.Module, module: nn.Module, gradient: Gradient, all_scores: Tensor
) -> bool:
    few = gradient.at(slice(1))  # mostly enough
    if any(_slopes_agree(scores, g, all_scores) for g in (few, gradient)):
        return True
    # Where scores saturate, steps that rise above the rounding of float32 can be too long.
    double = _in_double(module, gradient) if gradient.x.dtype == torch.float32 else None
    return double is not None and _slopes_agree(*double, all_scores)


@torch.no_grad()
def _is_staircase(scores: Scores, gradient: Gradient) -> bool:
    """Whether, at most images, a step that should be 200 roundings of the scores moves none."""
    g, x = gradient.value.double(), gradient.x
    norm = g.flatten(1).norm(dim=1)
    eps = torch.finfo(x.dtype).eps
    if gradient.scores.abs().amax() < torch.finfo(x.dtype).tiny / eps:
        return False  # steps of the number format, of which the walks speak
    rounding = eps * (gradient.weights * gradient.scores).double().abs().sum(1)
    pixels = eps * x.double().flatten(1).norm(dim=1)
    step = torch.maximum(200 * rounding / norm, 200 * pixels)
    move = torch.where(norm > 0, step / norm, 0.0).nan_to_num(0.0, 0.0, 0.0)
    ahead = x + (g * move.reshape(-1, *[1] * (x.ndim - 1))).to(x)
    going = 0
    for i, here in enumerate(x.split(1)):
        # At most images one or the other is mostly known from the first.
        still = move[i] > 0 and bool((scores(ahead[i : i + 1]) == scores(here)).all())
        going += not still
        if 2 * going >= len(x):
            return False
    return True


def _in_double(module: nn.Module, gradient: Gradient) -> tuple[nn.Module, Gradient] | None:
    """The module in float64, and its gradient; None where it does not compute in that."""
    try:
        double = copied(module).double()
        x, weights = gradient.x.double(), gradient.weights.double()
        values, value = gradient_of(double, x, weights)
    except Exception:  # foreign code, or a device, without float64
        return None
    found = replace(gradient, x=x, value=value, scores=values, weights=weights)
    return (double, found) if values.dtype == torch.float64 else None


@torch.no_grad()
def _slopes_are_exact(module: nn.Module, gradient: Gradient) -> bool | None:
    """Whether float64 shows the slope of the gradient to 1e-3, along it and across.

    None: it cannot say, as a gradient is zero, rounding is too large, or two tiny steps tell two
    slopes: kinks, or parts in lower precision.
    """
    found = _in_double(module, gradient)
    if found is None or not found[1].value.flatten(1).any(1).all():
        return None
    double, exact = found
    g = exact.value.flatten(1)
    ordinary = g.norm(dim=1) / g.shape[1] ** 0.5
    told = []
    for v in (F.normalize(g), F.normalize(_noise(g))):
        expected = (g * v).sum(1)
        allowed = _EXACT * torch.maximum(expected.abs(), ordinary)
        (short, rounding), (longer, _) = (_slope(double, exact, v, share) for share in _TINY)
        if ((short - longer).abs() + rounding <= allowed / 4).all():
            told.append((short - expected).abs() <= allowed)
    return bool(torch.stack(told).all()) if told else None


def _noise(like: Tensor) -> Tensor:
    """Normal numbers, always the same, of the shape of a float64 tensor."""
    generator = torch.Generator().manual_seed(4)
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)


def _slope(
    scores: Scores, gradient: Gradient, along: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """Central differences (n,) of the weighted scores along unit vectors (n, D); their rounding."""
    x = gradient.x
    length = share * x.abs().amax()
    step = length * along.reshape(x.shape)
    ahead, behind = (scores(at) * gradient.weights for at in (x + step, x - step))
    rounding = torch.finfo(x.dtype).eps * (ahead.abs() + behind.abs()).sum(1)
    return (ahead - behind).sum(1) / (2 * length), rounding / (2 * length)


@torch.no_grad()
def _slopes_agree(scores: Scores, gradient: Gradient, all_scores: Tensor) -> bool:
    """Whether, at half of the images or more, one of some steps shows the slope of the gradient."""
    g = gradient.value.double()
    norm = g.flatten(1).norm(dim=1)
    if not (norm > 0).all():
        return True  # a dead network
    along = g / _over(norm, g)
    if not gradient.doubt:
        return _slope_agrees(scores, gradient, all_scores, along, _LOOSE)
    noise = _noise(g)
    across = noise / _over(noise.flatten(1).norm(dim=1), g)
    return _slope_agrees(scores, gradient, all_scores, along, _STRICT) and _slope_agrees(
        scores, gradient, all_scores, across, _ACROSS
    )


def _slope_agrees(
    scores: Scores, gradient: Gradient, all_scores: Tensor, along: Tensor, allowed: float
) -> bool:
    """along: unit vectors (n, C, H, W) float64; allowed: error as a share of an ordinary slope."""
    g = gradient.value.double()
    expected = (g * along).flatten(1).sum(1)
    ordinary = g.flatten(1).norm(dim=1) / g[0].numel() ** 0.5
    scale = torch.maximum(expected.abs(), ordinary)
    weights = gradient.weights.double()
    varied = (weights.abs() * class_spread(all_scores).to(weights)).sum(1)
    rounded = torch.finfo(gradient.x.dtype).eps * (weights * gradient.scores.double()).abs().sum(1)
    # A slope so small that no step inside the image's range shows it is not judged.
    longest = _STEP * (gradient.x.amax() - gradient.x.amin()).double() * g[0].numel() ** 0.5
    good = torch.maximum(_SHARES[0] * varied, 1e3 * rounded) > scale * longest
    for share in _SHARES:
        step = torch.maximum(share * varied, 1e3 * rounded) / scale
        move = (along * _over(step, along)).to(gradient.x)
        ahead, behind = gradient.x + move, gradient.x - move
        length = (ahead - behind).double().flatten(1).norm(dim=1)
        gained = scores(torch.cat([ahead, behind])).double().chunk(2)
        change = ((gained[0] - gained[1]) * weights).sum(1)
        good |= (change / length - expected).abs() <= allowed * scale
        if 2 * good.sum() >= len(good):
            return True
    return False


def _over(row: Tensor, images: Tensor) -> Tensor:
    return row.reshape(-1, *[1] * (images.ndim - 1))


def _check_classes(scores: Scores, gradient: Gradient, name: str) -> None:
    """No class may have a zero gradient at all images and yet change under small steps.

    Raises:
        InputError: one does.
    """
    classes = gradient.scores.shape[1]
    chosen = torch.linspace(0, classes - 1, min(classes, _MOST_CLASSES)).round().long().unique()
    sign = torch.randn(gradient.x.shape, generator=torch.Generator().manual_seed(3)).sign()
    step = _STEP * (gradient.x.amax() - gradient.x.amin()) * sign.to(gradient.x)
    # Without any gradient the next step may be far away.
    ends = gradient.x, gradient.x + step if gradient.value.any() else gradient.x.flip(0)
    with torch.no_grad():
        before, after = scores(ends[0]), scores(ends[1])
    allowed = allowance(torch.cat([before, after]), REPEATS)[: len(before)]
    moves = (after - before).abs().double() > allowed
    for k in chosen.tolist():
        for i in moves[:, k].nonzero().flatten().tolist():
            interval = ends[0][i : i + 1], ends[1][i : i + 1]
            if _moves_without_gradient(scores, *interval, k, float(allowed[i, k])):
                raise InputError(
                    f"network {name!r} gives class {k} a score without a gradient in the image: "
                    f"{gradient.doubt}. Let the forward be differentiable in its input for all "
                    "classes."
                )


def _moves_without_gradient(scores: Scores, a: Tensor, b: Tensor, k: int, allowed: float) -> bool:
    """Whether score k changes from a to b, (1, C, H, W) each, but has no gradient where it does.

    Halving the way follows the change into the transition between two flat parts, if it is one.
    """

    def at(x: Tensor) -> tuple[float, bool]:
        one = torch.zeros(classes, dtype=x.dtype, device=x.device)
        one[k] = 1
        values, gradient = gradient_of(scores, x, one)
        return float(values[0, k]), bool(gradient.any())

    with torch.no_grad():
        classes = scores(a).shape[1]
    (low, sloped), (high, sloping) = at(a), at(b)
    for _ in range(_HALVINGS):
        if sloped or sloping or not abs(high - low) > allowed:
            break
        middle = (a + b) / 2
        value, sloped = at(middle)
        if abs(value - low) >= abs(high - value):
            b, high = middle, value
        else:
            a, low = middle, value
    return not (sloped or sloping)
