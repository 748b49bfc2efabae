"""Images made smaller and large again in front of the network: a defence, and its limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.images import ImageSet
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import IMAGE, Schema, described
from geomadv.linalg import Subspace, uniform_directions
from geomadv.perturbations import DeepFoolSettings
from geomadv.perturbations.deepfool import deepfool_by
from geomadv.perturbations.fooling import NO_LABEL, check_labels, labels_of
from geomadv.progress import tqdm

_SIZE, _SAMPLE = ("d_low",), ("sample",)
_RATE, _EACH = (*_SIZE, "factor"), (*_SIZE, *_SAMPLE)
_NORM, _PREDICTS = "Euclidean norm of", "class that the resampled network predicts at"
_CHANGES = "DeepFool changes the resampled network's label"
_CHANGED = "share changed against"

SCHEMA: Schema = {
    "d_low": (_SIZE, "pixels on the shorter side of the small image", "pixels"),
    "low_dimension": (_SIZE, "numbers of the small image: its dimension", "1"),
    "image_side": ((), "pixels on the shorter side of the image", "pixels"),
    "factor": (("factor",), "factor f on the perturbation", "1"),
    "label": (_SAMPLE, "true class", "1"),
    "source": (_SAMPLE, "class that the original network predicts at the clean image", "1"),
    "norm": (_SAMPLE, f"{_NORM} DeepFool's perturbation of the original network", "image units"),
    "converged": (_SAMPLE, "DeepFool changes the original network's label", "1"),
    "image_norm": (_SAMPLE, f"{_NORM} the image", "image units"),
    "clean_label": (_EACH, f"{_PREDICTS} the clean image", "1"),
    "perturbed_label": ((*_RATE, *_SAMPLE), f"{_PREDICTS} x + f r", "1"),
    "noise_label": ((*_RATE, *_SAMPLE), f"{_PREDICTS} x + f u, u random of the norm of r", "1"),
    "resampled_norm": (_EACH, f"{_NORM} the resampled perturbation", "image units"),
    "resampled_image_norm": (_EACH, f"{_NORM} the resampled image", "image units"),
    "accuracy": (_SIZE, "accuracy of the resampled network", "1"),
    "changed_share": (_SIZE, "share of labels that resampling alone changes", "1"),
    "fooling_rate": (_RATE, f"{_CHANGED} the resampled network's clean label", "1"),
    "noise_fooling_rate": (_RATE, f"{_CHANGED} that label by equally long random u", "1"),
    "original_fooling_rate": (_RATE, f"{_CHANGED} the original network's clean label", "1"),
    "error_rate": (_RATE, "share of perturbed images not classified as their true class", "1"),
    "span_dimension": (_SIZE, "dimension of the span of resampled perturbations", "1"),
    "confined_norm": (_EACH, f"{_NORM} DeepFool confined to that span", "image units"),
    "confined_converged": (_EACH, f"confined {_CHANGES}", "1"),
    "direct_norm": (_EACH, f"{_NORM} DeepFool on the resampled network", "image units"),
    "direct_converged": (_EACH, _CHANGES, "1"),
}


class Resample(nn.Module):
    """Bicubic down to `low` pixels and up again: a linear map of images (N, C, H, W).

    Both steps are `torch.nn.functional.interpolate(mode="bicubic", antialias=True)`: going down,
    the kernel is stretched by the factor, so that what the small grid cannot hold is averaged out
    and does not alias. The kernel is Keys' with a = -1/2, as in Pillow and MATLAB's `imresize`
    (without `antialias` torch takes a = -3/4 and aliases). Nothing is clipped: values may leave the
    range by the kernel's overshoot, and the map stays linear.

    Args:
        low: (height, width) in between; the image's own size makes the map the identity.
        size: (H, W) of the images.
    """

    def __init__(self, low: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        self.low, self.size = low, size

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        if self.low == self.size:
            return x
        for size in (self.low, self.size):
            x = nn.functional.interpolate(
                x, size=size, mode="bicubic", align_corners=False, antialias=True
            )
        return x


def low_resolution(d_low: int, shape: Sequence[int]) -> tuple[int, int]:
    """(height, width) with `d_low` pixels on the shorter side of an image (C, H, W), to scale.

    Raises:
        InputError: d_low is not between 1 and the shorter side.
    """
    height, width = shape[-2:]
    short = min(height, width)
    if isinstance(d_low, bool) or d_low != int(d_low) or not 1 <= d_low <= short:
        raise InputError(
            f"d_low={d_low}: expected a whole number of pixels from 1 to {short}, the shorter side "
            f"of images {tuple(shape)}. Resampling makes images smaller before it enlarges them."
        )
    return round(height * d_low / short), round(width * d_low / short)


def resampled(net: Classifier, d_low: int) -> Classifier:
    """The network behind a unit that resamples every image to `d_low` pixels and back.

    It takes images of the same size and bounds; norms and gradients are those of its input.

    Raises:
        InputError: d_low is larger than the image, or < 1.
    """
    size = (net.input_shape[1], net.input_shape[2])
    unit = Resample(low_resolution(d_low, net.input_shape), size)
    behind = Classifier(
        nn.Sequential(unit, net.module),
        net.input_shape,
        bounds=net.bounds,
        class_names=net.class_names,
        name=f"{net.name}-resampled{d_low}",
        device=net.device,
    )
    return behind.computed_like(net)


def resampling(
    net: Classifier,
    images: ImageSet,
    low_sizes: Sequence[int],
    factors: Sequence[float] = (1, 2, 3, 4, 5, 10),
    *,
    span_images: Any = None,
    deepfool: DeepFoolSettings = DeepFoolSettings(),  # noqa: B008 (frozen)
    seed: int = 0,
    keep: Keep = keep_nothing,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Does resampling protect? Table 1 of "With Friends Like These", and the attack of its §4.4.

    Jetley, Lord and Torr (2018). Perturbations r of the *original* network (DeepFool), multiplied
    by factors f, are added to the images; the resampled network classifies the sum. It is *fooled*
    where its class differs from the one it gives the clean image: what the perturbation does.
    Footnote 7, "samples that undergo a change in their predicted label", leaves open whether the
    *original* network's clean class counts instead, so that rate is given beside it; it includes
    what resampling alone changes. `error_rate` is against the true label. `noise_fooling_rate` is
    that of uniform random directions, one an image, of the same norms f ||r||.

    With `span_images` the resampled network is also attacked directly: DeepFool confined to the
    span of the resampled perturbations R r of those images, on `images` that are not among them,
    beside unconfined DeepFool on the same network.

    Args:
        net: the network.
        images: held-out images with labels.
        low_sizes: d_low, pixels on the shorter side in between; the image's own size is the
            network as it is.
        factors: f, > 0.
        span_images: (M, C, H, W) tensor or ImageSet, other images than `images`; None: no direct
            attack.
        deepfool: how DeepFool walks.
        seed: of the random directions.
        keep: what keeps finished d_low; default nothing. See `Keep`.
        batch_size: images per pass; default from memory.
        progress: show a progress bar.

    Returns:
        Dataset over d_low, factor and sample. Table: `accuracy` (d_low); `fooling_rate`,
        `original_fooling_rate`, `error_rate`, `noise_fooling_rate` (d_low, factor), shares of the
        images for which DeepFool `converged`; `changed_share` (d_low), labels that resampling alone
        changes; `low_dimension` (d_low), of the small images, and `image_side`. Per image: `label`,
        `source`, `norm`, `converged`, `image_norm` (sample); `clean_label`, `resampled_norm`,
        `resampled_image_norm` (d_low, sample), norms after resampling, images as they are (not
        mean-centred); `perturbed_label` and `noise_label` (d_low, factor, sample), -1 where scores
        are not finite (not fooled). Direct attack: `span_dimension` (d_low), `confined_norm`,
        `confined_converged`, `direct_norm`, `direct_converged` (d_low, sample); given-up images
        keep the norm reached: leave them out of means.

    Raises:
        InputError: unusable images or settings, no labels, d_low larger than the image, factors
            that are not positive, numbers given twice, or span_images of which DeepFool changes
            no label.
    """
    x = net.check_images(images).detach()
    labels = images.labels.numpy()
    span = None if span_images is None else net.check_images(span_images).detach()
    _check(net, low_sizes, factors)
    networks = [resampled(net, d_low) for d_low in low_sizes]
    size = net.batch_size(batch_size)
    attack = partial(_attacked, net, deepfool, size, progress)
    attacked = {"images": x} if span is None else {"images": x, "span": span}
    plain, *other = keep.each({name: partial(attack, part) for name, part in attacked.items()})
    delta = torch.from_numpy(plain["delta"].to_numpy()).to(x)
    noise = uniform_directions(len(x), net.dimension, seed=seed).to(x)
    noise = (noise * delta.flatten(1).norm(dim=1, keepdim=True)).reshape_as(x)
    spanning = None
    if span is not None:
        changed = other[0]["converged"].to_numpy()
        spanning = torch.from_numpy(other[0]["delta"].to_numpy()[changed]).to(x)
        if len(spanning) == 0:
            raise InputError(
                f"span_images: DeepFool changed the label of none of {len(span)} images, so that "
                "nothing spans the direct attack. Give more images, or leave span_images out."
            )

    def row(d_low: int, network: Classifier) -> xr.Dataset:
        variables = _transfer(network, _unit(net, d_low), x, delta, factors, size)
        noisy = _labels(network, x, noise, factors, size)
        variables["noise_label"] = (("factor", "sample"), noisy)
        if spanning is not None:
            variables |= _direct(network, _unit(net, d_low), x, spanning, deepfool, size)
        return xr.Dataset(variables)

    parts = {
        f"low-{d_low}": partial(row, d_low, network)
        for d_low, network in zip(low_sizes, networks, strict=True)
    }
    with tqdm(total=len(parts), desc="resampling", unit="size", disable=not progress) as bar:
        rows = keep.each(parts, bar.update)
    found = xr.concat(rows, "d_low").merge(plain.drop_vars("delta"))
    found["label"] = ("sample", labels)
    values: dict[str, Any] = {str(name): v for name, v in found.data_vars.items()}
    values |= _rates(found) | {
        "image_norm": x.flatten(1).norm(dim=1),
        "d_low": np.asarray(low_sizes, dtype=np.int64),
        "low_dimension": [
            net.input_shape[0] * math.prod(low_resolution(d_low, net.input_shape))
            for d_low in low_sizes
        ],
        "image_side": min(net.input_shape[1:]),
        "factor": np.asarray(factors, dtype=np.float64),
    }
    return described(SCHEMA, values, {"interpolation": "bicubic, antialias"})


def _attacked(
    net: Classifier, search: DeepFoolSettings, size: int, progress: bool, x: Tensor
) -> xr.Dataset:
    """DeepFool on the network itself."""
    found = deepfool_by(search, net, x, batch_size=size, progress=progress)
    return xr.Dataset(
        {
            "delta": (("sample", *IMAGE), found.delta.cpu().numpy()),
            "source": ("sample", found.source.cpu().numpy()),
            "norm": ("sample", found.norm.cpu().numpy()),
            "converged": ("sample", found.converged.cpu().numpy()),
        }
    )


def _unit(net: Classifier, d_low: int) -> Resample:
    size = (net.input_shape[1], net.input_shape[2])
    return Resample(low_resolution(d_low, net.input_shape), size)


@torch.no_grad()
def _transfer(
    network: Classifier,
    unit: Resample,
    x: Tensor,
    delta: Tensor,
    factors: Sequence[float],
    size: int,
) -> dict[str, Any]:
    """Labels and norms behind the resampling unit, image by image."""
    clean, norms, image_norms = [], [], []
    for part, shift in zip(x.split(size), delta.split(size), strict=True):
        clean.append(labels_of(network.scores(part)))
        norms.append(unit(shift).flatten(1).norm(dim=1))
        image_norms.append(unit(part).flatten(1).norm(dim=1))
    return {
        "clean_label": ("sample", check_labels(network, torch.cat(clean)).cpu().numpy()),
        "perturbed_label": (("factor", "sample"), _labels(network, x, delta, factors, size)),
        "resampled_norm": ("sample", torch.cat(norms).cpu().numpy()),
        "resampled_image_norm": ("sample", torch.cat(image_norms).cpu().numpy()),
    }


@torch.no_grad()
def _labels(
    network: Classifier, x: Tensor, delta: Tensor, factors: Sequence[float], size: int
) -> NDArray[np.int64]:
    """(factor, sample) classes at x + f delta."""
    pairs = list(zip(x.split(size), delta.split(size), strict=True))
    rows = [torch.cat([labels_of(network.scores(p + f * d)) for p, d in pairs]) for f in factors]
    labels: NDArray[np.int64] = torch.stack(rows).cpu().numpy()
    return labels


def _direct(
    network: Classifier,
    unit: Resample,
    x: Tensor,
    spanning: Tensor,
    search: DeepFoolSettings,
    size: int,
) -> dict[str, Any]:
    """DeepFool on the resampled network, inside the span of resampled perturbations and outside."""
    rows = torch.cat([unit(part) for part in spanning.split(size)])
    subspace = Subspace(rows.flatten(1).T)
    confined = deepfool_by(search, network, x, subspace=subspace, batch_size=size)
    direct = deepfool_by(search, network, x, batch_size=size)
    return {
        "span_dimension": ((), subspace.dimension),
        "confined_norm": ("sample", confined.norm.cpu().numpy()),
        "confined_converged": ("sample", confined.converged.cpu().numpy()),
        "direct_norm": ("sample", direct.norm.cpu().numpy()),
        "direct_converged": ("sample", direct.converged.cpu().numpy()),
    }


def _rates(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    """The shares of images; rates of perturbations are over those that DeepFool found."""

    def rate(reference: str, which: str = "perturbed_label") -> xr.DataArray:
        changed = (ds[which] != ds[reference]) & (ds[which] != NO_LABEL)
        return changed.where(ds["converged"]).mean("sample")

    return {
        "accuracy": (ds["clean_label"] == ds["label"]).mean("sample"),
        "changed_share": (ds["clean_label"] != ds["source"]).mean("sample"),
        "fooling_rate": rate("clean_label"),
        "noise_fooling_rate": rate("clean_label", "noise_label"),
        "original_fooling_rate": rate("source"),
        "error_rate": rate("label"),
    }


def _check(net: Classifier, low_sizes: Sequence[int], factors: Sequence[float]) -> None:
    if not low_sizes:
        raise InputError("low_sizes: expected at least one d_low, found none.")
    for name, values in (("low_sizes", low_sizes), ("factors", factors)):
        if len(set(values)) < len(values):
            raise InputError(f"{name}={list(values)}: expected different numbers, each once.")
    for d_low in low_sizes:
        low_resolution(d_low, net.input_shape)
    if not factors or not all(np.isfinite(f) and f > 0 for f in factors):
        raise InputError(
            f"factors={list(factors)}: expected positive numbers by which perturbations are "
            "multiplied, such as 1, 2, 5."
        )
