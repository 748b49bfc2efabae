"""Which rivals a DeepFool step looks at.

The published algorithm computes every candidate's gradient at every step. Here the first step does;
after it a rival is skipped only if its boundary, predicted from its score and the gradient norm
last measured in this walk, is `_MARGIN` times as far as the nearest one found in this step. That
holds as long as norms stay what they were, so an image whose norms spread or move, or whose walk
is long, goes back to all rivals.

The limits come from walks that looked at everything: 2,570 images of nine networks (digits, MNIST,
CIFAR-10, four of them robustly trained), 9,600 steps after the first, in which these rules would
have missed no nearest rival, with 1.1 to 2.5 of nine looked at a step on ordinary networks and 4
to 9 on robust ones. `benchmarks/deepfool.py` counts the images on which the walks differ.
"""

import torch
from torch import Tensor

# How much nearer than predicted a rival may be that is not looked at.
_MARGIN = 2.5
# Largest gradient norm over smallest, of one image's rivals in the first step.
_SPREAD = 2.5
# Factor by which any norm may have changed when it is measured again.
_CHANGE = 1.5
# The first step, counted from 0, that looks at all rivals again whatever the norms say.
_LONG = 4


class Rivals:
    """What is known of each image's rivals: classes, scores, gradient norms, and who is to be seen.

    Everything is (N, R) by image and rival; methods take the numbers `index` (n,) of some images.
    """

    def __init__(self, classes: Tensor, like: Tensor, prune: bool) -> None:
        self.classes = classes  # (N, R) int64
        n = len(classes)
        self.norms = like.new_zeros(classes.shape)  # when last measured; 0: vanished
        self.wanted = torch.ones_like(classes, dtype=torch.bool)
        self.nearest = like.new_full((n,), torch.inf)  # distance found in this step
        self._seen = torch.zeros_like(self.wanted)
        self._gaps = like.new_zeros(classes.shape)  # |f| at this step's point
        self._every = torch.full((n,), not prune, device=classes.device)

    def begin(self, index: Tensor, gaps: Tensor, step: int) -> None:
        """A new step at points where |f| is `gaps` (n, R): the likely nearest first, or all."""
        self._gaps[index] = gaps
        self._seen[index] = False
        self.nearest[index] = torch.inf
        if step == 1:
            self._every[index] |= self._spread(index) > _SPREAD
        if step >= _LONG:
            self._every[index] = True
        likely = self._predicted(index).argmin(1)
        self.wanted[index] = self._every[index, None]
        self.wanted[index, likely] = True

    def measured(
        self, index: Tensor, row: Tensor, slot: Tensor, norm: Tensor, distance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Notes gradient norms and distances (m,) of the rivals `slot` of the images index[row].

        Returns the images to which one of them is nearer than all before, and which one it is.
        """
        number = index[row]
        before = self.norms[number, slot]
        change = torch.maximum(norm / before, before / norm)
        # Not one number: a norm that vanished or is not finite is no evidence either.
        self._every[number[(before > 0) & ~(change <= _CHANGE)]] = True
        self.norms[number, slot] = norm
        self.wanted[number, slot] = False
        self._seen[number, slot] = True
        table = norm.new_full((len(index), self.classes.shape[1]), torch.inf)
        table[row, slot] = distance
        place = torch.zeros_like(table, dtype=torch.int64)
        place[row, slot] = torch.arange(len(row), device=row.device)
        least, where = table.min(1)
        nearer = least < self.nearest[index]
        self.nearest[index] = torch.minimum(self.nearest[index], least)
        return index[nearer], place.gather(1, where[:, None]).squeeze(1)[nearer]

    def reconsider(self, index: Tensor) -> Tensor:
        """Who else must be looked at, after what was found; returns the images that have one."""
        near = self._predicted(index) <= _MARGIN * self.nearest[index, None]
        self.wanted[index] = ~self._seen[index] & (near | self._every[index, None])
        return index[self.wanted[index].any(1)]

    def _predicted(self, index: Tensor) -> Tensor:
        """Distances (n, R) from the scores and the norms last measured; a vanished norm is far."""
        norms = self.norms[index]
        return torch.where(norms > 0, self._gaps[index] / norms, torch.inf)

    def _spread(self, index: Tensor) -> Tensor:
        norms = self.norms[index]
        return norms.amax(1) / norms.amin(1)
