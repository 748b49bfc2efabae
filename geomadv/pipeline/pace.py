"""How fast and how large the network is here: what a plan measures, once for each unit."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.classifier.counting import CountedPasses
from geomadv.images import ImageSet
from geomadv.pipeline.work import GRADIENT, Forward, Trial, Unit, Work

# Seconds that one trial may take, and images in it at most and at least.
_BUDGET, _MOST, _LEAST = 2.0, 512, 4
# Seconds above which the first trial counts, and below which one is repeated: the first sets
# things up, and clocks and caches disturb short ones.
_SLOW, _SHORT = 0.2, 0.02
# Side of the matrices whose product tells the rate of linear algebra.
_SIDE = 768


@dataclass(frozen=True)
class Measured:
    """One unit here: seconds, and passes in gradients."""

    seconds: float
    gradients: float


class Pace:
    """The speed of one network on one machine, measured when it is asked for.

    Args:
        net: the network.
        images: images of the kind that it will work on.
    """

    def __init__(self, net: Classifier, images: ImageSet) -> None:
        self.net = net
        some = images.sample(min(_MOST, len(images)))
        self._images, self._x = some, net.check_images(some[:_LEAST].images)
        self._known: dict[Unit, Measured] = {}
        self._flops = 0.0

    def of(self, unit: Unit) -> Measured:
        """What one of the unit takes."""
        if unit not in self._known:
            self._known[unit] = self._measured(unit)
        return self._known[unit]

    def seconds(self, work: Work) -> float:
        """What the work takes."""
        units = sum(number * self.of(unit).seconds for unit, number in work.units.items())
        return units + (work.flops / self.flops if work.flops else 0.0)

    def gradients(self, work: Work) -> float:
        """Passes of the work through the network, in gradients."""
        return sum(number * self.of(unit).gradients for unit, number in work.units.items())

    @property
    def flops(self) -> float:
        """Operations a second of a product of matrices, in the network's precision."""
        if not self._flops:
            a = torch.ones(_SIDE, _SIDE, dtype=self.net.dtype, device=self.net.device)
            self._flops = 2 * _SIDE**3 / (_SIDE * self._timed(Trial(lambda: len(a @ a))))
        return self._flops

    def _measured(self, unit: Unit) -> Measured:
        trial = unit.ready(self.net, self._some(unit))
        started = time.perf_counter()
        with CountedPasses(self.net) as passes:
            done = trial.run()
        self._wait()
        first = time.perf_counter() - started
        seconds = first / done if first > _SLOW else self._timed(trial)
        counted = passes.gradients / done
        return Measured(seconds, counted if trial.gradients is None else trial.gradients)

    def _timed(self, trial: Trial) -> float:
        """Seconds of one unit: the shortest of three trials, each repeated until it is no blink."""
        shortest = float("inf")
        for _ in range(3):
            started, done = time.perf_counter(), 0
            while (spent := time.perf_counter() - started) < _SHORT:
                done += trial.run()
                self._wait()
            shortest = min(shortest, spent / done)
        return shortest

    def _wait(self) -> None:
        if self.net.device.type == "cuda":
            torch.cuda.synchronize(self.net.device)

    def _some(self, unit: Unit) -> Tensor:
        """As many images as a trial affords."""
        if isinstance(unit, Forward) or unit == GRADIENT:
            count = self.net.batch_size()
        else:
            count = int(_BUDGET / (unit.load * self.of(GRADIENT).seconds))
        count = min(len(self._images), max(count, _LEAST))
        if len(self._x) < count:
            self._x = self.net.check_images(self._images[:count].images)
        return self._x[:count]
