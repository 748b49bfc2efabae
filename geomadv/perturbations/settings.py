"""How DeepFool walks: one settings object, handed through everywhere."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from geomadv.classifier import Classifier
from geomadv.errors import InputError

if TYPE_CHECKING:
    from geomadv.linalg import Subspace


@dataclass(frozen=True, kw_only=True)
class DeepFoolSettings:
    """How DeepFool walks: one object for every function that has it walk.

    Raises:
        InputError: a value out of its range.
    """

    candidates: int = 10
    """Best-scoring classes at the clean image that count, the source class included (10 there)."""
    overshoot: float = 0.02
    """Relative length by which the boundary is passed (authors: 0.02)."""
    max_iter: int = 50
    """Steps after which an image is given up (authors: 50)."""
    p: float = 2
    """Norm in which steps are shortest: 2 or inf."""
    clip: bool = False
    """Keep every tested point in the network's bounds; by default geometry ignores them."""
    prune: bool = True
    """Skip rivals that this walk's own measurements rule out; False looks at all at every step."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.candidates < 2:
            raise InputError(
                f"candidates={self.candidates} must be at least 2: source and one rival."
            )
        if not 0 <= self.overshoot < math.inf:
            raise InputError(
                f"overshoot={self.overshoot} must be finite and >= 0; the authors' value is 0.02."
            )
        if self.max_iter < 0:
            raise InputError(f"max_iter={self.max_iter} must be >= 0.")
        if self.p not in (2, math.inf):
            raise InputError(f"p={self.p} must be 2 or math.inf, the norms of the paper.")

    def check_subspace(self, net: Classifier, subspace: "Subspace") -> None:
        """Whether these settings can be had inside the subspace.

        Raises:
            InputError: another dimension than the images', clip=True or p other than 2.
        """
        if subspace.ambient_dimension != net.dimension:
            raise InputError(
                f"subspace lies in {subspace.ambient_dimension} dimensions, images of network "
                f"{net.name!r} have {net.dimension}. Take one of this network's directions."
            )
        if self.clip:
            raise InputError("clip=True with a subspace: clipping leaves the subspace. Choose one.")
        if self.p != 2:
            raise InputError(f"p={self.p} with a subspace: no closed form there; use p=2.")


class DeepFoolChanges(TypedDict, total=False):
    """Fields of `DeepFoolSettings` given by themselves."""

    candidates: int
    overshoot: float
    max_iter: int
    p: float
    clip: bool
    prune: bool
