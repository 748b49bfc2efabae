"""The walk of DeepFool: many images at a time, each with its own steps."""

import math

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.classifier.boundary_function import BoundaryFunction, drowned
from geomadv.errors import InputError
from geomadv.linalg.vectors import unit_rows
from geomadv.perturbations.rivals import Rivals
from geomadv.perturbations.settings import DeepFoolSettings
from geomadv.progress import tqdm

# Rounding of a difference of two scores, in units of their last place, and of the sums over pixels
# that the gradient weighs (see `geomadv.boundary.points`).
_SCORE, _PIXELS = 1, 2
# Bytes of activations below which a pass takes as long for several rivals of each image as for one
# (digits, LeNet and ResNet-20 on a CPU: 9 rivals together took a third to two thirds of the time).
_SMALL = 2**22


def run(walk: "Walk", size: int, progress: bool) -> None:
    """Walks until every image has crossed its boundary or is given up, `size` at a time."""
    total = len(walk.x)
    with tqdm(total=total, desc="DeepFool", unit="image", disable=not progress) as bar:
        active = walk.start(size)
        bar.update(total - len(active))
        for step in range(walk.search.max_iter):
            if len(active) == 0:
                break
            if step > 0:
                walk.look(active, size)
            remaining = [walk.take(part, step) for part in active.split(size)]
            bar.update(len(active) - sum(map(len, remaining)))
            active = torch.cat(remaining)
        bar.update(len(active))


class Walk:
    """The state of all images' walks. Images move by index, so that finished ones drop out."""

    def __init__(
        self,
        net: Classifier,
        x: Tensor,
        search: DeepFoolSettings,
        targets: Tensor | None,
        basis: Tensor | None,
        region: bool,
    ) -> None:
        n = len(x)
        self.net, self.x, self.search, self.basis = net, x, search, basis
        # Inside a subspace the sum of steps is kept in coordinates: it cannot leave the span.
        self.total = x.new_zeros(n, x[0].numel() if basis is None else basis.shape[1])
        self.source = torch.zeros(n, dtype=torch.int64, device=x.device)
        self.label = self.source.clone()
        self.iterations = self.source.clone()
        # It shares `source`, which is filled when the clean images are seen.
        self.boundary = BoundaryFunction.of(self.source, targets, region)
        count = 1 if targets is not None else min(search.candidates, net.num_classes) - 1
        self.rivals = Rivals(self.source[:, None].repeat(1, count), x, search.prune)
        # The nearest linearised boundary found in this step: its direction and gradient norm.
        self.direction = torch.zeros_like(self.total)
        self.length = x.new_ones(n)
        self.resolution = x.new_zeros(n)  # rounding of f over the norm: image units
        self.blur = x.new_zeros(n)  # what of it comes from the scores
        self.faint = torch.zeros(n, dtype=torch.bool, device=x.device)

    def position(self, index: Tensor) -> Tensor:
        """The points to test (n, C, H, W)."""
        point = self.x[index] + self._delta(index)
        return point.clamp(*self.net.bounds) if self.search.clip else point

    def _delta(self, index: Tensor) -> Tensor:
        """The perturbation (n, C, H, W) before any clipping."""
        total = self.total[index]
        flat = total if self.basis is None else total @ self.basis.T
        return ((1 + self.search.overshoot) * flat).reshape(-1, *self.net.input_shape)

    def start(self, size: int) -> Tensor:
        """Source classes, rivals and all of their gradients; returns who has a way to go."""
        everyone = torch.arange(len(self.x), device=self.x.device)
        for index in everyone.split(size):
            x = self.x[index].requires_grad_()
            with torch.enable_grad():
                scores = self.net.scores(x)
            self._meet(index, scores.detach())
            self._measure(index, x, scores)
        self._check_range()
        return everyone[self.rivals.classes[:, 0] != self.source]

    def _meet(self, index: Tensor, scores: Tensor) -> None:
        """Source classes and rivals, from the scores at the clean images."""
        if not scores.isfinite().all():
            raise InputError(
                f"network {self.net.name!r} gives non-finite scores at clean images. Check its "
                "weights and the images' range."
            )
        source = scores.argmax(1)
        self.source[index] = self.label[index] = source
        if self.boundary.target is None:
            others = scores.scatter(1, source[:, None], -torch.inf)
            count = self.rivals.classes.shape[1]
            self.rivals.classes[index] = others.topk(count, dim=1).indices
        else:
            self.rivals.classes[index] = self.boundary.target[index, None]

    def _check_range(self) -> None:
        """Refuses scores whose geometry the dtype cannot hold, at more than half of the images.

        At single images a vanishing gradient is an answer; at most of them it is the scale.
        """
        far = self.rivals.classes[:, 0] != self.source
        found = self.rivals.nearest.isfinite() & far
        if 2 * int((self.faint & far & ~found).sum()) > int(far.sum()):
            raise InputError(
                f"network {self.net.name!r}: its gradients are outside the range of "
                f"{self.x.dtype}. Scale its scores to ordinary size, or use dtype=torch.float64."
            )
        everyone = torch.arange(len(self.x), device=self.x.device)
        blurred = found & self._blurred(everyone, self.rivals.nearest)
        if 2 * int(blurred.sum()) > int(far.sum()):
            raise InputError(
                f"network {self.net.name!r}: its scores are so large beside their differences that "
                f"{self.x.dtype} places boundaries no better than "
                f"{float(self.blur[blurred].median()):.1g} image units, at distances of "
                f"{float(self.rivals.nearest[blurred].median()):.1g}. Subtract what all "
                "scores have in common, or use dtype=torch.float64."
            )

    def _blurred(self, index: Tensor, distance: Tensor) -> Tensor:
        """Whether rounding of the scores leaves a distance (n,) to the boundary undecided (n,)."""
        pixels = torch.finfo(distance.dtype).eps * self._size(index)
        return drowned(self.blur[index], pixels, distance)

    def _width(self) -> float:
        return self.net.bounds[1] - self.net.bounds[0]

    def look(self, index: Tensor, size: int) -> None:
        """Finds the nearest linearised boundary of the images `index`."""
        while len(index) > 0:
            # Sorted by how many rivals they look at, so that batches share the work.
            index = index[self.rivals.wanted[index].sum(1).argsort(stable=True)]
            for part in index.split(size):
                x = self.position(part).requires_grad_()
                with torch.enable_grad():
                    scores = self.net.scores(x)
                self._measure(part, x, scores)
            index = self.rivals.reconsider(index)

    def _measure(self, index: Tensor, x: Tensor, scores: Tensor) -> None:
        """The wanted rivals' gradients; scores (n, classes) with graph to x (n, C, H, W)."""
        values = scores.detach()
        near = self.boundary[index](values).near
        classes = self.rivals.classes[index]
        wanted = self.rivals.wanted[index] & (classes != near[:, None])
        # In the order of their scores at the clean image.
        rank = wanted.cumsum(1)
        slots = int(rank[:, -1].max())
        together = max(1, min(slots, _SMALL // (len(x) * self.net.bytes_per_image)))
        for first in range(0, slots, together):
            row, slot = (wanted & (rank > first) & (rank <= first + together)).nonzero().unbind(1)
            far, own = classes[row, slot], near[row]
            if together == 1:
                # Images with fewer rivals take part with zero.
                cotangent = _difference(values, row, far, own)
                keep = first + 1 < slots
                gradient = torch.autograd.grad(scores, x, cotangent, retain_graph=keep)[0][row]
            else:
                gradient = self._gradient(x.detach()[row], far, own)
            pair = torch.stack([values[row, far], values[row, own]])
            self._compare(index, row, slot, pair, gradient.flatten(1))

    def _gradient(self, x: Tensor, far: Tensor, near: Tensor) -> Tensor:
        """Gradients (m, C, H, W) of F_far - F_near, each at a point x (m, C, H, W) of its own."""
        x.requires_grad_()
        with torch.enable_grad():
            scores = self.net.scores(x)
        cotangent = _difference(scores.detach(), torch.arange(len(x), device=x.device), far, near)
        (gradient,) = torch.autograd.grad(scores, x, cotangent)
        return gradient

    def _compare(
        self, index: Tensor, row: Tensor, slot: Tensor, pair: Tensor, gradient: Tensor
    ) -> None:
        """Notes some rivals of the images `index`, and each image's nearest boundary among them.

        row, slot (m,): the image, by its place in index, and the rival; pair (2, m): its score and
        the other one's; gradient (m, D). A vanishing or non-finite gradient is infinitely far.
        """
        w = gradient if self.basis is None else self._inside(gradient)
        if self.search.p == math.inf:
            direction, norm = w.sign(), unit_rows(w, order=1)[1]
        else:
            direction, norm = unit_rows(w)
        usable = (norm > 0) & norm.isfinite()
        if not usable.all():
            self.faint[index[row[~usable & (w != 0).any(1)]]] = True
        distance = torch.where(usable, (pair[0] - pair[1]).abs() / norm, torch.inf)
        chosen, best = self.rivals.measured(index, row, slot, norm, distance)
        self.direction[chosen] = direction[best]
        self.length[chosen] = norm[best]
        self.resolution[chosen] = self._rounding(chosen, pair[:, best]) / norm[best]
        self.blur[chosen] = _score_rounding(pair[:, best]) / norm[best]

    def _inside(self, gradient: Tensor) -> Tensor:
        """Gradients (n, D) in coordinates of the subspace; rounding of zero there is zero."""
        assert self.basis is not None
        w = gradient @ self.basis
        noise = 8 * torch.finfo(w.dtype).eps * math.sqrt(w.shape[1])
        share = unit_rows(w)[1] / unit_rows(gradient)[1]
        return torch.where((share <= noise)[:, None], 0.0, w)

    def _rounding(self, index: Tensor, pair: Tensor) -> Tensor:
        """Rounding (n,) of f = the difference of two scores (2, n). Other classes take no part."""
        pixels = self._size(index) * self.length[index]
        return _score_rounding(pair) + _PIXELS * torch.finfo(pair.dtype).eps * pixels

    def _size(self, index: Tensor) -> Tensor:
        """How large the numbers are that make a position, in the norm of the steps (n,)."""
        order = self.search.p
        x = torch.linalg.vector_norm(self.x[index].flatten(1), ord=order, dim=1)
        size = x + torch.linalg.vector_norm(self.total[index], ord=order, dim=1)
        return torch.where(size > 0, size, self._width())

    def take(self, index: Tensor, step: int) -> Tensor:
        """Steps to the nearest boundary found and tests the new points; returns who goes on."""
        # No boundary in sight: every rival's gradient vanishes (or overflows).
        index = index[self.rivals.nearest[index].isfinite()]
        if len(index) == 0:
            return index
        # A step below rounding would change nothing, for ever.
        distance = torch.maximum(self.rivals.nearest[index], self.resolution[index])
        before = self.total[index]
        self.total[index] = before + distance[:, None] * self.direction[index]
        with torch.no_grad():
            scores = self.net.scores(self.position(index))
        finite = scores.isfinite().all(1)
        self.total[index[~finite]] = before[~finite]
        index, scores = index[finite], scores[finite]
        self.iterations[index] += 1
        self.label[index] = scores.argmax(1)
        going = ~self._crossed(index, scores)
        index, scores = index[going], scores[going]
        own = scores.gather(1, self.boundary[index](scores).near[:, None])
        gaps = (scores.gather(1, self.rivals.classes[index]) - own).abs()
        self.rivals.begin(index, gaps, step + 1)
        return index

    def _crossed(self, index: Tensor, scores: Tensor) -> Tensor:
        """Who is beyond the boundary by more than what another batch size may round off."""
        margin = self.boundary[index](scores)
        classes = torch.stack([margin.near, margin.far], dim=1)
        return margin.value > self._rounding(index, scores.gather(1, classes).T)

    def reached(self) -> Tensor:
        """Whose label is another one, or the target's, by more than rounding of scores (N,)."""
        everyone = torch.arange(len(self.x), device=self.x.device)
        if self.boundary.target is None:
            there = self.label != self.source
        else:
            there = self.label == self.boundary.target
        length = torch.linalg.vector_norm(self.total, ord=self.search.p, dim=1)
        undecided = (length > 0) & self._blurred(everyone, length)
        return there.logical_and(~undecided)

    def perturbations(self) -> tuple[Tensor, Tensor]:
        """Perturbations and tested points (N, C, H, W)."""
        everyone = torch.arange(len(self.x), device=self.x.device)
        adversarial = self.position(everyone)
        delta = adversarial - self.x if self.search.clip else self._delta(everyone)
        return delta, adversarial


def _difference(like: Tensor, row: Tensor, far: Tensor, near: Tensor) -> Tensor:
    """A cotangent per row: one backward pass gives every row's own difference's gradient."""
    cotangent = torch.zeros_like(like)
    cotangent[row, near] = -1
    cotangent[row, far] = 1
    return cotangent


def _score_rounding(pair: Tensor) -> Tensor:
    """Rounding (n,) of the difference of two scores (2, n) from the scores themselves."""
    return _SCORE * torch.finfo(pair.dtype).eps * pair.abs().amax(0)
