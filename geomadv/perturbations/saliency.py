"""Saliency maps: what the score of a class depends on."""

from typing import Any

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.classifier.precision import computes
from geomadv.perturbations.fooling import check_labels, labels_of
from geomadv.perturbations.result import Classes, check_classes


@computes
def saliency(
    net: Classifier,
    images: Any,
    labels: Classes | None = None,
    *,
    batch_size: int | None = None,
) -> Tensor:
    """Gradient of a class score with respect to the image (Simonyan et al., 2014, section 3).

    Signed and per channel; the authors' map is its largest magnitude over the channels.

    Args:
        net: the network; computation is done on its device and in its dtype.
        images: clean images (N, C, H, W) inside the bounds: tensor, array or ImageSet.
        labels: class, or (N,) classes, by number or name, whose score counts; default: the
            predicted ones.
        batch_size: images per pass; default from memory. It changes results by rounding only.

    Returns:
        (N, C, H, W) gradients of the score before softmax, per image unit.

    Raises:
        InputError: images or labels that cannot be used, or scores that are not finite.
    """
    x = net.check_images(images).detach()
    chosen = check_classes("labels", labels, len(x), net)
    size = net.batch_size(batch_size)
    maps = []
    for i in range(0, len(x), size):
        part = x[i : i + size].clone().requires_grad_()
        with torch.enable_grad():
            scores = net.scores(part)
            predicted = labels_of(scores.detach())
            check_labels(net, predicted, i)
            own = predicted if chosen is None else chosen[i : i + size]
            (gradient,) = torch.autograd.grad(scores.gather(1, own[:, None]).sum(), part)
        maps.append(gradient)
    return torch.cat(maps)
