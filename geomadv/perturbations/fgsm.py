"""The fast gradient sign method: one step of the same size in every pixel."""

import math
from typing import Any

import torch

from geomadv.classifier import Classifier
from geomadv.classifier.precision import computes
from geomadv.errors import InputError
from geomadv.perturbations.balls import check_units
from geomadv.perturbations.fooling import check_labels, labels_at, labels_of
from geomadv.perturbations.result import Classes, Perturbations, check_classes


@computes
def fgsm(
    net: Classifier,
    images: Any,
    epsilon: float,
    labels: Classes | None = None,
    *,
    clip: bool = False,
    batch_size: int | None = None,
) -> Perturbations:
    """One step up the sign of the loss gradient (Goodfellow et al., ICLR 2015, section 4).

    delta = epsilon · sign(∇L), L the cross-entropy of the predicted class. With
    m = log Σ_{k≠c} exp F_k - F_c it is L = log(1 + exp m), which grows with m: ∇L and ∇m have the
    same sign, and m is what is differentiated. Unlike ∇L it does not vanish by rounding where the
    network is sure of its class.

    Args:
        net: the network; computation is done on its device and in its dtype.
        images: clean images (N, C, H, W) inside the bounds: tensor, array or ImageSet.
        epsilon: step per pixel, image units (> 0). A pixel whose gradient is zero stays.
        labels: class, or (N,) classes, by number or name, whose loss is to grow; default: the
            predicted ones.
        clip: keep the perturbed images in the network's bounds. Off by default: geometry ignores
            the pixel box.
        batch_size: images per pass; default from memory. It changes results by rounding only.

    Raises:
        InputError: images, epsilon or labels that cannot be used, or scores of clean images that
            are not finite. Where those of a perturbed image are not, its `label` is -1.
    """
    x = net.check_images(images).detach()
    if not 0 < epsilon < float("inf"):
        raise InputError(f"epsilon={epsilon} must be positive and finite, in image units.")
    check_units("epsilon", epsilon, math.inf, net)
    chosen = check_classes("labels", labels, len(x), net)
    size = net.batch_size(batch_size)
    signs, source = [], []
    for i in range(0, len(x), size):
        part = x[i : i + size].clone().requires_grad_()
        with torch.enable_grad():
            scores = net.scores(part)
            predicted = labels_of(scores.detach())
            check_labels(net, predicted, i)
            own = (predicted if chosen is None else chosen[i : i + size])[:, None]
            rivals = scores.scatter(1, own, -torch.inf)
            margin = rivals.logsumexp(1) - scores.gather(1, own).squeeze(1)
            (gradient,) = torch.autograd.grad(margin.sum(), part)
        signs.append(gradient.sign())
        source.append(predicted)
    delta = epsilon * torch.cat(signs)
    adversarial = x + delta
    if clip:
        adversarial = adversarial.clamp(*net.bounds)
        delta = adversarial - x
    return Perturbations(
        delta=delta,
        adversarial=adversarial,
        norm=delta.flatten(1).norm(dim=1),
        source=torch.cat(source),
        label=labels_at(net, adversarial, size),
    )
