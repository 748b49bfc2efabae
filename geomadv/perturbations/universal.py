"""Universal perturbations: one vector that changes the label of most images."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.classifier.boundary_function import BoundaryFunction
from geomadv.classifier.precision import computes
from geomadv.errors import InputError, check_counts
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import IMAGE
from geomadv.perturbations.balls import ball_norm, check_ball, check_units
from geomadv.perturbations.fooling import (
    check_labels,
    clean_labels,
    is_fooled,
    labels_of,
    labels_under,
)
from geomadv.perturbations.settings import DeepFoolSettings
from geomadv.perturbations.universal_pass import (
    Problem,
    batched_pass,
    sequential_pass,
    watched_images,
)
from geomadv.progress import tqdm

# Images in one DeepFool call of the batched variant. On a CPU 16 cost half as much an image as one
# alone, 32 a tenth less again; v is older for the later ones.
_BLOCK = 16
_DEEPFOOL = DeepFoolSettings(max_iter=10)

# What an experiment's caller may say about its searches; the rest is the experiment's own.
_SETTINGS = (
    "target_rate",
    "passes",
    "method",
    "deepfool",
    "block",
)


@dataclass(frozen=True)
class UniversalPerturbation:
    """One perturbation for all images: the best one at the end of any pass."""

    delta: Tensor  # (C, H, W)  perturbation, image units
    norm: float  # p-norm of delta, image units; at most radius, to rounding
    radius: float  # of the ball that it was sought in, image units
    p: float  # order of the norm, 2 or inf
    fooling_rate: float  # share of the sample set whose predicted label changes
    held_out_fooling_rate: float | None  # the same on held-out images, where given
    history: Tensor  # (passes,) float64, fooling rate on the sample set after each pass
    held_out_history: Tensor | None  # (passes,) float64, on the held-out images
    steps: Tensor  # (passes,) int64, DeepFool steps added to delta in each pass
    images: int  # size of the sample set

    @property
    def passes(self) -> int:
        """Passes over the sample set."""
        return len(self.history)

    def __repr__(self) -> str:
        unseen = self.held_out_fooling_rate
        held_out = "" if unseen is None else f", {100 * unseen:.1f} % held out"
        return (
            f"UniversalPerturbation({tuple(self.delta.shape)}, {self.p:g}-norm {self.norm:.3g} of "
            f"{self.radius:.3g}, fools {100 * self.fooling_rate:.1f} % of {self.images} "
            f"images{held_out}, {self.passes} passes)"
        )


@dataclass(frozen=True)
class _State:
    """What goes from pass to pass, by way of what keeps it."""

    v: Tensor
    best: Tensor
    history: list[float]
    held_out: list[float]
    steps: list[int]

    def stored(self) -> xr.Dataset:
        images = {name: (IMAGE, getattr(self, name).cpu().numpy()) for name in ("v", "best")}
        numbers = {
            name: (f"{name}_pass", np.array(getattr(self, name)))
            for name in ("history", "held_out", "steps")
        }
        return xr.Dataset(images | numbers)

    def restored(self, ds: xr.Dataset) -> "_State":
        """The state of another pass, where this one's tensors are."""
        v, best = (torch.from_numpy(ds[name].to_numpy()).to(self.v) for name in ("v", "best"))
        numbers = (ds[name].to_numpy().tolist() for name in ("history", "held_out", "steps"))
        return _State(v, best, *numbers)


@computes
def universal_perturbation(
    net: Classifier,
    images: Any,
    radius: float,
    p: float = 2,
    target_rate: float = 0.8,
    passes: int = 10,
    seed: int = 0,
    *,
    method: Literal["batched", "sequential"] = "batched",
    deepfool: DeepFoolSettings = _DEEPFOOL,
    block: int = _BLOCK,
    held_out: Any = None,
    keep: Keep = keep_nothing,
    batch_size: int | None = None,
    progress: bool = False,
) -> UniversalPerturbation:
    """One vector in a ball that changes most images' labels (Moosavi-Dezfooli et al., CVPR 2017).

    Algorithm 1 goes through the images in random order; for each one that v does not fool yet,
    it adds DeepFool's way out from x + v and projects v on the p-ball.

    `method="sequential"` is that algorithm. `method="batched"` takes `block` images that v does
    not fool, calls DeepFool once for all of them, adds their steps one after the other (those to
    the most frequent label first) and goes to the best point of this path, unless v itself is
    better. What is best is judged on 128 images of the sample set: a fooled one counts 1, a nearly
    fooled one a part. Both methods return the best v at the end of a pass.

    Args:
        net: the network.
        images: sample set (N, C, H, W) in the bounds: tensor, array or ImageSet. Labels are not
            used: fooled means that the network's own prediction changes.
        radius: of the ball, image units. The authors: 2000 (p = 2) and 10 (p = inf) for pixels in
            0..255; 2000 is 4 % of the mean norm of their images.
        p: 2 or math.inf.
        target_rate: fooling rate on the sample set after which no further pass starts (the
            authors' 1 - delta, 0.8). 1 goes through all passes.
        passes: at most so many passes over the sample set (the authors: no limit, mostly < 10).
        seed: of the order of the images and of the comparison sets.
        method: see above.
        deepfool: how DeepFool walks; at most 10 steps by default, as the authors do here.
        block: images per DeepFool call of the batched method. Larger blocks are faster on a GPU,
            smaller ones follow the sequential algorithm more closely.
        held_out: further images whose fooling rate is recorded; they do not change the result.
        keep: what keeps finished passes, for the same images and settings; default nothing. See
            `Keep`. A search of more passes may go on from them.
        batch_size: images per forward pass; default from memory. It changes results by rounding
            only.
        progress: show a progress bar.

    Returns:
        UniversalPerturbation. On one machine the same seed gives the same perturbation.

    Raises:
        InputError: images or settings that cannot be used.
    """
    x = net.check_images(images).detach()
    unseen = None if held_out is None else net.check_images(held_out).detach()
    _check(radius, p, target_rate, passes, method, block, deepfool)
    check_units("radius", radius, p, net)
    size = net.batch_size(batch_size)
    clean, margin = _clean(net, x, size)
    problem = Problem(net, x, clean, margin, radius, p, deepfool, block, size)
    unseen_clean = None if unseen is None else clean_labels(net, unseen, size)
    state = _State(torch.zeros_like(x[0]), torch.zeros_like(x[0]), [], [], [])
    with tqdm(
        total=passes * len(x), desc="universal perturbation", unit="image", disable=not progress
    ) as bar:

        def one_pass(before: _State) -> xr.Dataset:
            after = _one_pass(problem, before, method, seed, bar)
            if unseen is not None and unseen_clean is not None:
                labels = labels_under(net, unseen, after.v, size)
                after.held_out.append(_share(is_fooled(labels, unseen_clean)))
            return after.stored()

        while len(state.history) < passes and max(state.history, default=0.0) < target_rate:
            number = len(state.history)
            state = state.restored(keep(f"pass-{number}", partial(one_pass, state)))
            bar.update((number + 1) * len(x) - bar.n)  # where the pass was kept
            bar.set_postfix(fooled=f"{100 * max(state.history):.1f} %", refresh=False)
    return _result(state, problem)


@torch.no_grad()
def _clean(net: Classifier, x: Tensor, size: int) -> tuple[Tensor, float]:
    """Classes predicted at the sample set, and their mean margin over the best rival."""
    scores = torch.cat([net.scores(part) for part in x.split(size)])
    clean = check_labels(net, labels_of(scores))
    margin = BoundaryFunction(clean)(scores).value
    # Scores that are all equal have no scale: any will do.
    return clean, -float(margin.double().mean()) or 1.0


def _one_pass(problem: Problem, state: _State, method: str, seed: int, bar: Any) -> _State:
    """Moves v once through all images; records its fooling rate, and v if it is the best."""
    number = len(state.history)
    # Each pass has its own random stream, so that a continued run sees the same ones.
    shuffled = np.random.default_rng([seed, number]).permutation(len(problem.x))
    order = torch.from_numpy(shuffled).to(problem.x.device)
    if method == "sequential":
        v, taken = sequential_pass(problem, state.v, order, bar.update)
    else:
        watched = watched_images(order, [seed, number, 1])
        v, taken = batched_pass(problem, state.v, order, watched, bar.update)
    rate = _share(problem.fooled(order, v))
    best = v if not state.history or rate > max(state.history) else state.best
    history, steps = [*state.history, rate], [*state.steps, taken]
    return _State(v, best, history, list(state.held_out), steps)


def _share(fooled: Tensor) -> float:
    return float(fooled.double().mean())


def _result(state: _State, problem: Problem) -> UniversalPerturbation:
    best = int(np.argmax(state.history))
    return UniversalPerturbation(
        delta=state.best,
        norm=ball_norm(state.best, problem.p),
        radius=float(problem.radius),
        p=problem.p,
        fooling_rate=state.history[best],
        held_out_fooling_rate=state.held_out[best] if state.held_out else None,
        history=torch.tensor(state.history, dtype=torch.float64),
        held_out_history=torch.tensor(state.held_out, dtype=torch.float64)
        if state.held_out
        else None,
        steps=torch.tensor(state.steps, dtype=torch.int64),
        images=len(problem.x),
    )


def check_search(search: Mapping[str, Any] | None) -> dict[str, Any]:
    """Keyword arguments of `universal_perturbation` that an experiment hands on; {} for None.

    Raises:
        InputError: one that the experiment decides itself or that does not exist, or a value that
            cannot be used.
    """
    settings = dict(search or {})
    unknown = [name for name in settings if name not in _SETTINGS]
    if unknown:
        raise InputError(
            f"search: {unknown[0]!r} is no setting of the search that can be given here; expected "
            f"some of {', '.join(_SETTINGS)}. The others are arguments of the experiment."
        )
    parameters = inspect.signature(universal_perturbation).parameters
    _check(1.0, 2, **{name: parameters[name].default for name in _SETTINGS} | settings)
    return settings


def _check(
    radius: float,
    p: float,
    target_rate: float,
    passes: int,
    method: str,
    block: int,
    deepfool: DeepFoolSettings,
) -> None:
    check_ball(radius, p)
    if not 0 < target_rate <= 1:
        raise InputError(f"target_rate={target_rate} must lie in (0, 1]; the authors' is 0.8.")
    if method not in ("batched", "sequential"):
        raise InputError(f"method={method!r} must be 'batched' or 'sequential'.")
    if not isinstance(deepfool, DeepFoolSettings):
        raise InputError(f"deepfool={deepfool!r} must be a DeepFoolSettings.")
    check_counts(passes=passes, block=block, max_iter=deepfool.max_iter)
