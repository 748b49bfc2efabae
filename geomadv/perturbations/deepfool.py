"""DeepFool: walk to the nearest decision boundary, untargeted, targeted or inside a subspace."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from geomadv.classifier import Classifier
from geomadv.classifier.batching import check_batch_size
from geomadv.classifier.boundary_function import BoundaryFunction
from geomadv.errors import InputError
from geomadv.perturbations.result import Perturbations, check_classes

if TYPE_CHECKING:
    from geomadv.linalg import Subspace

# Rounding of a forward pass, relative to its largest score: some tens of eps in deep networks.
_ROUNDINGS = 32


# Rivals looked at first, and how much larger than the largest known gradient norm an unknown one
# may be: on 256 images each, all norms were within 1.9 (MNIST LeNet) and 1.5 (CIFAR-10 ResNet-20)
# times the larger of the two best-scoring rivals', and the nearest of nine was missed once.
_FIRST_LOOK, _UNSEEN_NORM = 3, 1.5

# A backward pass costs the same for one image of a batch as for all: it must serve this share.
_SHARED = 0.5


@dataclass(frozen=True)
class DeepFoolResult(Perturbations):
    """Perturbations found by DeepFool, one per image, in the order of the images.

    Nothing is dropped: an image whose label could not be changed is kept with `converged` False.
    """

    converged: Tensor  # (N,)  bool: label changed (untargeted), label is the target (targeted)
    iterations: Tensor  # (N,)  int64, steps taken


def deepfool(
    net: Classifier,
    images: Any,
    target: int | Tensor | None = None,
    subspace: "Subspace | None" = None,
    candidates: int = 10,
    overshoot: float = 0.02,
    max_iter: int = 50,
    *,
    clip: bool = False,
    rival_slack: float = 1.5,
    batch_size: int | None = None,
    progress: bool = False,
) -> DeepFoolResult:
    """Small perturbations that change the predicted class (Moosavi-Dezfooli et al., CVPR 2016).

    Each step linearises the boundaries f_k = F_k - F_s between the source class s and its rivals
    at the current point and goes to the nearest one: r = |f_k| / ||∇f_k||² ∇f_k (eq. 8). The
    point tested is x + (1 + overshoot) Σ r. On a linear classifier this is the exact projection,
    after one step.

    Args:
        net: the network; computation is done on its device and in its dtype.
        images: clean images (N, C, H, W) inside the bounds: tensor, array or ImageSet.
        target: class, or (N,) classes, to reach. Only the boundary (s, target) counts: a walk ends
            once F_target > F_s, and has converged if the target is then the predicted class. An
            image already predicted as the target gets a zero perturbation, converged.
        subspace: confine the perturbation to its span ("With Friends Like These", §4.3): every
            gradient is projected before the linear problem is solved.
        candidates: how many of the best-scoring classes at the clean image count, the source class
            included (the authors' `num_classes`, 10).
        overshoot: relative length by which the boundary is passed (authors: 0.02).
        max_iter: steps after which an image is given up (authors: 50).
        clip: keep every tested point in the network's bounds. Off by default: geometry ignores
            the pixel box.
        rival_slack: which rivals to look at: those whose boundary, predicted from the current
            scores and the last known gradient norms, is at most so many times as far as the
            nearest; a norm not yet known counts as 1.5 times the largest known one. math.inf looks
            at all candidates at every step (slower).
        batch_size: images per pass; default from memory. It changes results by rounding only.
        progress: show a progress bar.

    Returns:
        DeepFoolResult. A vanishing gradient ends an image's walk where it stands, not converged.

    Raises:
        InputError: images, classes or settings that cannot be used.

    Cost: per image two or three forward and candidates - 1 backward passes for the first step, then
    two forward and usually one or two backward passes a step.
    """
    x = net.check_images(images).detach()
    targets = check_classes("target", target, len(x), net)
    _check_settings(net, subspace, candidates, overshoot, max_iter, clip, rival_slack)
    rivals = 1 if targets is not None else min(candidates, net.num_classes) - 1
    walk = _Walk(net, x, targets, rivals, subspace, overshoot, clip, rival_slack)
    return _run(walk, max_iter, check_batch_size(batch_size, net), progress)


def deepfool_from(
    net: Classifier, x: Tensor, candidates: int, overshoot: float, max_iter: int, size: int
) -> DeepFoolResult:
    """Untargeted DeepFool from any points (N, C, H, W) of image space, `size` at a time.

    For points that are perturbed already and may lie outside the bounds: nothing is checked.
    """
    rivals = min(candidates, net.num_classes) - 1
    return _run(_Walk(net, x, None, rivals, None, overshoot, False, 1.5), max_iter, size, False)


def _run(walk: "_Walk", max_iter: int, size: int, progress: bool) -> DeepFoolResult:
    total = len(walk.x)
    with tqdm(total=total, desc="DeepFool", unit="image", disable=not progress) as bar:
        active = walk.start(size)
        bar.update(total - len(active))
        for step in range(max_iter):
            if len(active) == 0:
                break
            if step > 0:
                walk.look(active, size)
            remaining = torch.cat([walk.take(part) for part in active.split(size)])
            bar.update(len(active) - len(remaining))
            active = remaining
        bar.update(len(active))
    return walk.result()


class _Walk:
    """The state of all images' walks. Images move by index, so that finished ones drop out."""

    def __init__(
        self,
        net: Classifier,
        x: Tensor,
        targets: Tensor | None,
        rivals: int,
        subspace: "Subspace | None",
        overshoot: float,
        clip: bool,
        rival_slack: float,
    ) -> None:
        n = len(x)
        self.net, self.x, self.targets = net, x, targets
        self.overshoot, self.clip, self.rival_slack = overshoot, clip, rival_slack
        self.basis = None if subspace is None else subspace.basis.to(x)
        # Inside a subspace the sum of steps is kept in coordinates: it cannot leave the span.
        self.total = x.new_zeros(n, x[0].numel() if self.basis is None else self.basis.shape[1])
        self.source = torch.zeros(n, dtype=torch.int64, device=x.device)
        self.label = self.source.clone()
        self.iterations = self.source.clone()
        self.rivals = self.source[:, None].repeat(1, rivals)
        self.scores = x.new_zeros(n, net.num_classes)  # at the clean images
        # The rivals' gradient norms when last computed (0: not yet), who to look at next, and the
        # nearest linearised boundary found in this step: its distance, gradient and norm.
        self.norms = x.new_zeros(n, rivals)
        self.wanted = torch.ones_like(self.norms, dtype=torch.bool)
        self.nearest = x.new_full((n,), torch.inf)
        self.length = torch.ones_like(self.nearest)
        self.gradient = torch.zeros_like(self.total)

    def delta(self, index: Tensor, total: Tensor) -> Tensor:
        """The perturbation (n, C, H, W) before any clipping."""
        flat = total if self.basis is None else total @ self.basis.T
        return ((1 + self.overshoot) * flat).reshape(-1, *self.net.input_shape)

    def position(self, index: Tensor, total: Tensor) -> Tensor:
        """The points to test (n, C, H, W)."""
        point = self.x[index] + self.delta(index, total)
        return point.clamp(*self.net.bounds) if self.clip else point

    def start(self, size: int) -> Tensor:
        """Source classes, rivals and the first look at them; returns who has a way to go.

        One pass over the images serves the scores and the best-scoring rivals' gradients.
        """
        passes_over = not math.isinf(self.rival_slack)
        if passes_over:
            self.wanted[:, _FIRST_LOOK:] = False
        for index in torch.arange(len(self.x), device=self.x.device).split(size):
            x = self.x[index].requires_grad_()
            with torch.enable_grad():
                scores = self.net.scores(x)
            self._meet(index, scores.detach())
            self._gradients(index, x, scores)
        active = (self.rivals[:, 0] != self.source).nonzero().squeeze(1)
        if passes_over:
            near = self._predict(active, self.scores[active]) <= self.nearest[active, None]
            near[:, :_FIRST_LOOK] = False
            self.wanted[active] |= near
        self._look_all(active, size)
        return active

    def _meet(self, index: Tensor, scores: Tensor) -> None:
        """Source classes and rivals, from the scores at the clean images."""
        if not scores.isfinite().all():
            raise InputError(
                f"network {self.net.name!r} gives non-finite scores at clean images. Check its "
                "weights and the images' range."
            )
        self.scores[index] = scores
        source = scores.argmax(1)
        self.source[index] = self.label[index] = source
        if self.targets is None:
            others = scores.scatter(1, source[:, None], -torch.inf)
            self.rivals[index] = others.topk(self.rivals.shape[1], dim=1).indices
        else:
            self.rivals[index] = self.targets[index, None]

    def look(self, index: Tensor, size: int) -> None:
        """Finds the nearest linearised boundary of the images `index`."""
        self.nearest[index] = torch.inf
        self._look_all(index, size)

    def _look_all(self, index: Tensor, size: int) -> None:
        """Looks at all wanted rivals of the images; batches leave over what few of them want."""
        while True:
            index = index[self.wanted[index].any(1)]
            if len(index) == 0:
                return
            for part in self._by_work(index).split(size):
                self._look(part)

    def _by_work(self, index: Tensor) -> Tensor:
        """The images sorted by how many rivals they look at, so that batches share the work."""
        return index[self.wanted[index].sum(1).argsort(stable=True)]

    def _look(self, index: Tensor) -> None:
        """Gradients of the wanted rivals of one batch; keeps the nearest boundary so far.

        Every image's first wanted rival is looked at, further ones while enough images have one.
        """
        x = self.position(index, self.total[index]).requires_grad_()
        with torch.enable_grad():
            scores = self.net.scores(x)
        self._gradients(index, x, scores)

    def _gradients(self, index: Tensor, x: Tensor, scores: Tensor) -> None:
        """The gradients of `_look`; scores (n, classes) with graph to x (n, C, H, W)."""
        values = scores.detach()
        rows = torch.arange(len(x), device=x.device)
        count = self.wanted[index].sum(1)
        # Wanted rivals first, in the order of their scores at the clean image.
        order = self.wanted[index].to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        source = self.source[index]
        away = torch.zeros_like(values)
        away[rows, source] = -1
        most = [int((count > j).sum()) for j in range(int(count.max()))]
        slots = max(1, sum(n > _SHARED * len(index) for n in most))
        for j in range(slots):
            slot = order[:, j]
            rival = self.rivals[index, slot]
            # A cotangent per image: one backward pass gives every image's own difference's
            # gradient. Images with fewer rivals take part with zero.
            live = (j < count) & (rival != source)
            cotangent = away.clone()
            cotangent[rows, rival] = 1
            cotangent *= live[:, None]
            (gradient,) = torch.autograd.grad(scores, x, cotangent, retain_graph=j < slots - 1)
            f = values[rows, rival] - values[rows, source]
            self._compare(index[live], slot[live], f[live], gradient.flatten(1)[live])

    def _compare(self, index: Tensor, slot: Tensor, f: Tensor, gradient: Tensor) -> None:
        """Notes the gradient norms of one rival per image, and the boundary if it is nearer.

        A vanishing or non-finite gradient is infinitely far.
        """
        w = gradient if self.basis is None else gradient @ self.basis
        norm = w.norm(dim=1)
        self.norms[index, slot] = norm
        self.wanted[index, slot] = False
        usable = (norm > torch.finfo(norm.dtype).tiny) & norm.isfinite()
        distance = torch.where(usable, f.abs() / norm, torch.inf)
        closer = distance < self.nearest[index]
        chosen = index[closer]
        self.nearest[chosen] = distance[closer]
        self.length[chosen] = norm[closer]
        self.gradient[chosen] = w[closer]

    def _predict(self, index: Tensor, scores: Tensor) -> Tensor:
        """Distances (n, rivals) expected from the scores and the last known gradient norms."""
        f = scores.gather(1, self.rivals[index]) - scores.gather(1, self.source[index, None])
        known = self.norms[index]
        norms = torch.where(known > 0, known, _UNSEEN_NORM * known.amax(1, keepdim=True))
        return (f.abs() / norms).nan_to_num(torch.inf)

    def take(self, index: Tensor) -> Tensor:
        """Steps to the nearest boundary found and tests the new points; returns who goes on."""
        # No boundary in sight: every rival's gradient vanishes (or overflows).
        index = index[self.nearest[index].isfinite()]
        if len(index) == 0:
            return index
        distance = self.nearest[index]
        # A step below the rounding of the image would change nothing, for ever.
        rounding = torch.finfo(distance.dtype).eps * self.x[index].flatten(1).norm(dim=1)
        share = torch.maximum(distance, rounding) / self.length[index]
        total = self.total[index] + share[:, None] * self.gradient[index]
        with torch.no_grad():
            scores = self.net.scores(self.position(index, total))
        finite = scores.isfinite().all(1)
        index, scores = index[finite], scores[finite]
        self.total[index] = total[finite]
        self.iterations[index] += 1
        self.label[index] = scores.argmax(1)
        going = ~self._crossed(index, scores)
        index, scores = index[going], scores[going]
        predicted = self._predict(index, scores)
        reach = self.rival_slack * predicted.amin(1, keepdim=True)
        self.wanted[index] = predicted <= reach
        return index

    def _crossed(self, index: Tensor, scores: Tensor) -> Tensor:
        targets = None if self.targets is None else self.targets[index]
        margin = BoundaryFunction.of(self.source[index], targets)(scores).value
        # A smaller margin might not survive the rounding of another batch size.
        rounding = _ROUNDINGS * torch.finfo(scores.dtype).eps * scores.abs().amax(1)
        return margin > rounding

    def result(self) -> DeepFoolResult:
        """The record of all walks."""
        everyone = torch.arange(len(self.x), device=self.x.device)
        adversarial = self.position(everyone, self.total)
        delta = adversarial - self.x if self.clip else self.delta(everyone, self.total)
        reached = self.label != self.source if self.targets is None else self.label == self.targets
        return DeepFoolResult(
            delta=delta,
            adversarial=adversarial,
            norm=delta.flatten(1).norm(dim=1),
            source=self.source,
            label=self.label,
            converged=reached,
            iterations=self.iterations,
        )


def _check_settings(
    net: Classifier,
    subspace: "Subspace | None",
    candidates: int,
    overshoot: float,
    max_iter: int,
    clip: bool,
    rival_slack: float,
) -> None:
    if candidates < 2:
        raise InputError(f"candidates={candidates} must be at least 2: source and one rival.")
    if not rival_slack >= 1:
        raise InputError(f"rival_slack={rival_slack} must be at least 1; math.inf for all rivals.")
    if not 0 <= overshoot < math.inf:
        raise InputError(
            f"overshoot={overshoot} must be finite and >= 0; the authors' value is 0.02."
        )
    if max_iter < 0:
        raise InputError(f"max_iter={max_iter} must be >= 0.")
    if subspace is None:
        return
    if subspace.ambient_dimension != net.dimension:
        raise InputError(
            f"subspace lies in {subspace.ambient_dimension} dimensions, images of network "
            f"{net.name!r} have {net.dimension}."
        )
    if clip:
        raise InputError("clip=True with a subspace: clipping leaves the subspace. Choose one.")
