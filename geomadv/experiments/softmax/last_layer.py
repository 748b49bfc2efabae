"""The last linear step of a classifier and the features that it reads."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.classifier.probes import uniform_noise
from geomadv.errors import InputError, LackingError
from geomadv.experiments.softmax.head import REMEDY, ModuleTap, ProductTap, Tap
from geomadv.perturbations.fooling import check_labels, labels_of

Array = NDArray[np.float64]

# A sum of n products is off by some sqrt(n) roundings of the sum of their magnitudes (Higham and
# Mary, SIAM J. Sci. Comput. 2019, theorem 2.4: lambda sqrt(n) with probability near 1).
_ROUNDINGS = 16

# Fewer images than this are joined by random ones: a single one agrees with some affine function.
_ENOUGH = 8


@dataclass(frozen=True)
class LastLayer:
    """A network as scores W g(x) + b, with g the map to the features of its last linear step.

    Attributes:
        net: the network.
        tap: gives what the last linear step reads.
        weight: (m, l) float64 array W, one row per class.
        bias: (m,) float64 array b.
        axis: of what the step reads (without the images' axis), over whose other axes it takes
            the mean: the features are those means. None: all numbers are features.
    """

    net: Classifier
    tap: Tap
    weight: Array
    bias: Array
    axis: int | None

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, l) and scores (N, m) of images (N, C, H, W), both differentiable in x.

        One pass of the network as `Classifier.scores` runs it, folded or smoothed; unfolded where
        the layer was named.
        """
        given, scores = self.tap(x)
        if len(given) != len(x):
            raise InputError(
                f"network {self.net.name!r}: the last linear step reads {tuple(given.shape)} for "
                f"{len(x)} images; expected one row an image. {REMEDY}"
            )
        if self.axis is not None:
            given = given.movedim(self.axis + 1, 1).flatten(2).mean(2)
        return given.flatten(1), scores

    @torch.no_grad()
    def features(self, x: Tensor, batch_size: int | None = None) -> tuple[Array, NDArray[np.int64]]:
        """Features (N, l) as float64 and predicted classes (N,) of images (N, C, H, W).

        The class is -1 where scores are not finite.
        """
        parts = [self(part) for part in x.split(self.net.batch_size(batch_size))]
        features = torch.cat([g for g, _ in parts]).double().cpu().numpy()
        return features, torch.cat([labels_of(scores) for _, scores in parts]).cpu().numpy()


def last_layer(
    net: Classifier, images: Tensor, layer: str | None = None, batch_size: int | None = None
) -> LastLayer:
    """The last linear step of a network, W g + b, verified on all images.

    It begins at the last product of something that depends on the image with weights (a linear
    layer, a matrix product or a convolution, whoever calls it), or at the input of the module
    `layer`. What follows must be affine: W is its Jacobian, b its value for features of zero, and
    W g + b must give the scores of all images to rounding (fewer than eight are joined by random
    ones). Pooling behind a 1x1 convolution, scales
    and masks behind a layer are part of W and b; where all positions count alike (pooling), the
    features are the means over the positions.

    Args:
        net: the network.
        images: (N, C, H, W), at least one.
        layer: dotted name of a module whose input is taken for the features; default: as above.
        batch_size: images per pass; default from memory.

    Raises:
        InputError: there is no such product or module, scores are not finite, or what follows is
            not affine; the message says on how many images, and how far the scores are off.
            `LackingError` where the network has no such layer and none was named.
    """
    with torch.no_grad():
        x = images.detach()
        tap: ProductTap | ModuleTap
        tap = ProductTap(net, x[:1]) if layer is None else ModuleTap(net, layer)
        weight, bias = _affine(net, tap, x[:1])
        pooled = _pooled(weight, net)
        axis = None if pooled is None else pooled[0]
        rows = weight.flatten(1) if pooled is None else pooled[1]
        found = LastLayer(net, tap, rows.double().cpu().numpy(), bias.double().cpu().numpy(), axis)
        _verify(found, x, net.batch_size(batch_size), f"{tap.name}; {tap.ran_last}")
    return found


def _affine(net: Classifier, tap: Tap, x: Tensor) -> tuple[Tensor, Tensor]:
    """Jacobian (m, ...) of the scores with respect to what is read, and scores (m,) for zero."""
    here = tap(x)[0].clone()
    with torch.enable_grad():
        swap = here.requires_grad_()
        scores = tap(x, swap)[1][0]
        if not scores.requires_grad:
            raise InputError(
                f"network {net.name!r}: the scores do not depend, through gradients, on what its "
                f"last linear step reads. {REMEDY}"
            )
        # One class at a time: classes times features is what the result takes anyway.
        rows = [
            torch.autograd.grad(score, swap, retain_graph=True, materialize_grads=True)[0][0]
            for score in scores
        ]
    return torch.stack(rows), tap(x, torch.zeros_like(here))[1][0]


def _pooled(weight: Tensor, net: Classifier) -> tuple[int, Tensor] | None:
    """The axis (channels) along which W (m, ...) differs, if only there, and W summed over others.

    None where it is a matrix, or positions do not count alike.
    """
    same = _ROUNDINGS * torch.finfo(net.dtype).eps * weight.abs().max()
    for axis in (0, weight.ndim - 2) if weight.ndim > 2 else ():
        positions = weight.movedim(axis + 1, 1).flatten(2)
        mean = positions.mean(2, keepdim=True)
        if bool(((positions - mean).abs() <= same).all()):
            return axis, positions.double().sum(2)
    return None


def _verify(layer: LastLayer, x: Tensor, size: int, place: str) -> None:
    """Raises InputError unless W g + b gives the scores of all images to rounding."""
    eps = torch.finfo(layer.net.dtype).eps * _ROUNDINGS * layer.weight.shape[1] ** 0.5
    net, lacking = layer.net, max(_ENOUGH - len(x), 0)
    tried = torch.cat([x, uniform_noise(lacking, net.input_shape, net.bounds).to(x)])
    excess, allowed, labels = [], [], []
    for part in tried.split(size):
        found = layer(part)
        labels.append(labels_of(found[1]))
        g, scores = (t.double().cpu().numpy() for t in found)
        off = np.abs(g @ layer.weight.T + layer.bias - scores)
        rounding = eps * (np.abs(g) @ np.abs(layer.weight).T + np.abs(layer.bias))
        excess.append(np.where(off <= rounding, 0.0, off).max(axis=1))
        allowed.append(rounding.max(axis=1))
    check_labels(layer.net, torch.cat(labels)[: len(x)])
    worst = np.concatenate(excess)
    wrong = worst != 0
    if wrong.any():
        image = int(np.argmax(np.where(np.isnan(worst), np.inf, worst)))
        more = f" and {len(tried) - len(x)} random ones" if len(tried) > len(x) else ""
        # Nothing that was given is wrong, unless a layer was.
        refusal = LackingError if isinstance(layer.tap, ProductTap) else InputError
        raise refusal(
            f"network {layer.net.name!r} does not end in a linear layer ({place}): W g + b gives "
            f"other scores on {int(wrong.sum())} of {len(x)} images{more}, on image {image} by "
            f"{worst[image]:.2g} where rounding allows {np.concatenate(allowed)[image]:.2g}. Its "
            f"outputs are changed before they become the scores. {REMEDY}"
        )
