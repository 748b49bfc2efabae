"""DeepFool: walk to the nearest decision boundary, untargeted, targeted or inside a subspace."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.classifier.precision import computes
from geomadv.perturbations.result import Classes, Perturbations, check_classes
from geomadv.perturbations.settings import DeepFoolSettings
from geomadv.perturbations.walk import Walk, run

if TYPE_CHECKING:
    from geomadv.linalg import Subspace


@dataclass(frozen=True)
class DeepFoolResult(Perturbations):
    """Perturbations found by DeepFool, one per image, in the order of the images.

    Nothing is dropped: an image whose label could not be changed is kept with `converged` False.
    """

    converged: Tensor  # (N,)  bool: label changed (untargeted), label is the target (targeted)
    iterations: Tensor  # (N,)  int64, steps taken

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {int(self.converged.sum())} converged)"


def deepfool(
    net: Classifier,
    images: Any,
    target: Classes | None = None,
    subspace: "Subspace | None" = None,
    candidates: int = 10,
    overshoot: float = 0.02,
    max_iter: int = 50,
    *,
    p: float = 2,
    clip: bool = False,
    prune: bool = True,
    region: bool = False,
    batch_size: int | None = None,
    progress: bool = False,
) -> DeepFoolResult:
    """Small perturbations that change the predicted class (Moosavi-Dezfooli et al., CVPR 2016).

    Each step linearises the boundaries f_k = F_k - F_s between the source class s and its rivals
    at the current point and goes to the nearest one: r = |f_k| / ||∇f_k||² ∇f_k (eq. 8), in the
    maximum norm r = |f_k| / ||∇f_k||_1 sign(∇f_k) (eq. 12). The point tested is
    x + (1 + overshoot) Σ r. On a linear classifier this is the exact projection, after one step.

    Args:
        net: the network; computation is done on its device and in its dtype.
        images: clean images (N, C, H, W) inside the bounds: tensor, array or ImageSet.
        target: class, or (N,) classes, to reach, by number or name. Only the boundary (s, target)
            counts: a walk ends once F_target > F_s, and has converged if the target is then the
            predicted class. An image already predicted as the target gets a zero perturbation,
            converged.
        subspace: confine the perturbation to its span ("With Friends Like These", §4.3): every
            gradient is projected before the linear problem is solved.
        candidates: how many of the best-scoring classes at the clean image count, the source class
            included (the authors' `num_classes`, 10).
        overshoot: relative length by which the boundary is passed (authors: 0.02).
        max_iter: steps after which an image is given up (authors: 50).
        p: norm in which every step is shortest, 2 or math.inf.
        clip: keep every tested point in the network's bounds. Off by default: geometry ignores
            the pixel box.
        prune: after the first step, which looks at all candidates, skip those that the gradient
            norms measured in this walk rule out with a margin (`geomadv.perturbations.rivals`).
            False looks at all candidates at every step, as published; slower, same iterates.
        region: with a target, walk to the boundary of the target's region: at every step the rival
            is whoever scores highest, and a walk ends where the target is predicted.
        batch_size: images per pass; default from memory. It changes results by rounding only, as
            the number of threads does: of 200 images on each of two digit networks no
            label and no number of steps differed, and no perturbation by more than 3e-6 of the
            largest. A walk whose tested point lies on the boundary to rounding may take a step
            more or less.
        progress: show a progress bar.

    Returns:
        DeepFoolResult, `norm` in the p-norm. A vanishing gradient ends an image's walk where it
        stands, not converged; nor is an image so near to the boundary that its distance drowns in
        the rounding of scores with a large offset.

    Raises:
        InputError: images, classes or settings that cannot be used; scores that are not finite, or
            whose size drowns their differences in rounding.

    Cost: per image two forward and candidates - 1 backward passes for the first step, then two
    forward and one or more backward passes a step. Few small images take all of an image's rivals
    in one pass, and a forward pass for each.
    """
    search = DeepFoolSettings(
        candidates=candidates, overshoot=overshoot, max_iter=max_iter, p=p, clip=clip, prune=prune
    )
    return deepfool_by(search, net, images, target, subspace, region, batch_size, progress)


@computes
def deepfool_by(
    search: DeepFoolSettings,
    net: Classifier,
    images: Any,
    target: Classes | None = None,
    subspace: "Subspace | None" = None,
    region: bool = False,
    batch_size: int | None = None,
    progress: bool = False,
) -> DeepFoolResult:
    """`deepfool` with its settings in one object."""
    x = net.check_images(images).detach()
    targets = check_classes("target", target, len(x), net)
    if subspace is not None:
        search.check_subspace(net, subspace)
    size = net.batch_size(batch_size)
    return _walk(search, net, x, targets, subspace, region, size, progress)


@computes
def deepfool_from(
    net: Classifier, x: Tensor, search: DeepFoolSettings, size: int
) -> DeepFoolResult:
    """Untargeted DeepFool from any points (N, C, H, W) of image space, `size` at a time.

    For points that are perturbed already and may lie outside the bounds: nothing is checked.
    """
    return _walk(search, net, x, None, None, False, size, False)


def _walk(
    search: DeepFoolSettings,
    net: Classifier,
    x: Tensor,
    targets: Tensor | None,
    subspace: "Subspace | None",
    region: bool,
    size: int,
    progress: bool,
) -> DeepFoolResult:
    basis = None if subspace is None else subspace.basis.to(x)
    walk = Walk(net, x, search, targets, basis, region)
    run(walk, size, progress)
    delta, adversarial = walk.perturbations()
    order = math.inf if search.p == math.inf else 2
    return DeepFoolResult(
        delta=delta,
        adversarial=adversarial,
        norm=torch.linalg.vector_norm(delta.flatten(1), ord=order, dim=1),
        source=walk.source,
        label=walk.label,
        converged=walk.reached(),
        iterations=walk.iterations,
    )
