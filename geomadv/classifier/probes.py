"""Images on which a network is tried out, and how far two computations of its scores may differ.

Every tolerance comes from the scores compared: from the class and the image at hand. A class that
is switched off by a constant of -1e9, or a common offset, says nothing about the rounding of the
other classes.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# So many roundings apart may two orders of the same sums be: MobileNet-v2 in float32 is up to 2,000
# from its float64 scores, folded or not. Other kernels on a GPU (TF32) are as far.
ORDERS = 1e4
# The same call, repeated: equal on a CPU, a few roundings apart with atomic additions on a GPU.
REPEATS = 1e2
# Room for scores whose terms cancel, in roundings of an ordinary score and of the score itself.
_CANCELLED = 32


# Pixels of an image from which on a forward pass takes longer than all else.
_LARGE = 50_000


@dataclass(frozen=True)
class Probes:
    """Images in the bounds of several kinds; the first `GENERIC` are like any photograph.

    On constant images max-pooling has ties and a standardised image is 0 / 0: no gradients there.
    """

    images: Tensor  # (n, C, H, W) float64 on the CPU

    GENERIC = 2

    @property
    def generic(self) -> Tensor:
        """The images (2, C, H, W) on which gradients are compared."""
        return self.images[: self.GENERIC]


def uniform_noise(
    n: int, shape: tuple[int, int, int], bounds: tuple[float, float], seed: int = 0
) -> Tensor:
    """Images (n, C, H, W) float64 of independent pixels, uniform in the bounds."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, *shape, generator=generator, dtype=torch.float64)
    return bounds[0] + (bounds[1] - bounds[0]) * x


def probe_images(shape: tuple[int, int, int], bounds: tuple[float, float]) -> Probes:
    """Noise, blobs, dark noise, black and white; small images also faint noise, a ramp and grey.

    Always the same.
    """
    noise, blobs, faint, dark = uniform_noise(4, shape, (0.0, 1.0), seed=1)
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(1, shape[0], 4, 4, generator=generator, dtype=torch.float64)
    smooth = F.interpolate(coarse, size=shape[1:], mode="bilinear", align_corners=True)[0]
    rows, columns = (torch.linspace(0, 1, size, dtype=torch.float64) for size in shape[1:])
    ramp = ((rows[:, None] + columns) / 2).expand(shape)
    black, white, grey = (torch.full_like(noise, value) for value in (0.0, 1.0, 0.5))
    units = [noise, 0.9 * smooth + 0.1 * blobs, 0.2 * dark, black, white]
    if noise.numel() <= _LARGE:
        units += [0.45 + 0.1 * faint, ramp, grey]
    return Probes(bounds[0] + (bounds[1] - bounds[0]) * torch.stack(units))


def images_of_every_kind(shape: tuple[int, int, int], bounds: tuple[float, float]) -> Tensor:
    """Images (n, C, H, W) float64 as different as can be, always the same.

    Noise, blobs, and one image of each pure colour: a part of a network may be switched off, or
    saturated, at all images of ordinary colours. Grey ones are the probes.
    """
    probes = probe_images(shape, bounds)
    if shape[0] == 1:
        return probes.images
    primary = torch.eye(shape[0], dtype=torch.float64)[:3]
    black = torch.zeros(1, shape[0], dtype=torch.float64)
    colours = torch.cat([black, primary, 1 - black, 1 - primary]).unique(dim=0)
    pure = bounds[0] + (bounds[1] - bounds[0]) * colours[:, :, None, None]
    return torch.cat([probes.generic, pure.expand(-1, *shape)])


def images_together(shape: tuple[int, int, int]) -> int:
    """Images per pass: small ones share what a pass costs beside the arithmetic."""
    return max(1, _LARGE // (2 * math.prod(shape)))


def sizes(scores: Tensor) -> Tensor:
    """How much each score (n, classes) varies over images, float64.

    The size of class k on image i is what it differs from the mean of class k, or what
    it would differ if it varied there like the other classes do; a constant class has size 0.
    """
    return _sizes(scores, class_spread(scores))


def _sizes(scores: Tensor, spread: Tensor) -> Tensor:
    moved = (scores.detach().double() - mean_of_classes(_finite_rows(scores))).abs()
    varying = spread > 0
    if not varying.any():
        return torch.zeros_like(moved)
    share = (moved[:, varying] / spread[varying]).nanmedian(1).values
    return torch.where(varying, torch.maximum(moved, share[:, None] * spread), 0.0)


def _finite_rows(scores: Tensor) -> Tensor:
    """float64; constant images, which some networks standardise to 0 / 0, are left out."""
    scores = scores.detach().double()
    return scores[scores.isfinite().all(1)]


def mean_of_classes(scores: Tensor) -> Tensor:
    """Means (classes,) over images; exact for a constant class, were it the dtype's lowest."""
    first = scores[:1]
    return (first + (scores - first).mean(0)).sum(0)


def class_spread(scores: Tensor) -> Tensor:
    """Largest distance (classes,) float64 of each class from its mean; 0 if that is rounding."""
    eps, scores = torch.finfo(scores.dtype).eps, _finite_rows(scores)
    spread = (scores - mean_of_classes(scores)).abs().amax(0)
    return torch.where(spread > 8 * eps * scores.abs().amax(0), spread, 0.0)


def allowance(scores: Tensor, roundings: float) -> Tensor:
    """By how much each score (n, classes) may differ between two computations, float64."""
    spread, eps = class_spread(scores), torch.finfo(scores.dtype).eps
    size = _sizes(scores, spread)
    ordinary = spread[spread > 0].median() if (spread > 0).any() else spread.sum()
    # Factors first: a class masked by the lowest number there is has no room for them.
    rest = eps * _CANCELLED * (scores.detach().double().abs() + ordinary)
    return eps * roundings * size + rest


def scores_differ(found: Tensor, expected: Tensor, allowed: Tensor) -> Tensor:
    """Which of the scores (n, classes) differ; those that are not finite in `expected` do not."""
    apart = (found.detach().double() - expected.detach().double()).abs()
    return ~(apart <= allowed) & expected.isfinite()
