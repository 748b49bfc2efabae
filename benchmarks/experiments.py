"""Every experiment of a paper: passes made, passes needed, share of the bare throughput.

A pass is an image's way through the network, forward or backward. Needed are those that no earlier
one of the same experiment has made: a forward pass at another point, a backward pass with another
result. The share is the time that the needed passes would take at the throughput of bare ones of
the same network, over the CPU time of the experiment, with its inputs at hand.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
import tyro
import xarray as xr
from torch import Tensor

import geomadv as ga
from geomadv.curvature.stem import TracedStem
from geomadv.curvature.traced import Traced
from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.runner import Runner
from geomadv.pipeline.study import Place, study_of
from geomadv.pipeline.table import EXPERIMENTS


@dataclass
class Flags:
    """Settings of the benchmark."""

    network: str = "digits-cnn"
    """Network to measure."""
    only: tuple[str, ...] = ()
    """These experiments alone, beside what they start from; default: all of a paper."""
    settings: str = "{}"
    """Settings by experiment, as JSON: {"curvature": {"preset": "paper", "count": 20}}."""
    threads: int = 1
    """Threads of torch."""
    repetitions: int = 5
    """Repetitions of the bare passes."""


@dataclass
class Passes:
    """Rows that went through the network, and the different ones among them."""

    forward: int = 0
    backward: int = 0
    seen: set[tuple[str, int]] = field(default_factory=set)
    # To tell rows apart costs time that is none of the experiment's.
    seconds: float = 0.0

    def needed(self, way: str) -> int:
        """Different passes of a way, "forward" or "backward"."""
        return sum(kind == way for kind, _ in self.seen)

    def note(self, way: str, *values: Tensor) -> None:
        """Rows that took a way; they differ if their values do."""
        started = time.process_time()
        rows = max(len(v) for v in values)
        keys = sum(_keys(v).expand(rows) * (i + 1) for i, v in enumerate(values))
        setattr(self, way, getattr(self, way) + rows)
        self.seen.update((way, key) for key in keys.tolist())  # type: ignore[union-attr]
        self.seconds += time.process_time() - started


def _keys(rows: Tensor) -> Tensor:
    """A number (n,) int64 for each row (n, ...), of its bits."""
    flat = rows.detach().cpu().float().contiguous().flatten(1).view(torch.int32).long()
    generator = torch.Generator().manual_seed(0)
    return flat @ torch.randint(-(2**31), 2**31, (flat.shape[1],), generator=generator)


class Counting:
    """While entered, notes the passes of every Classifier and of traces of it."""

    def __init__(self, passes: Passes) -> None:
        self.passes, self._depth = passes, 0
        self._plain = (
            ga.Classifier.scores,
            TracedStem.__init__,
            torch.autograd.grad,
            Traced.__call__,
        )
        self._patches = [
            mock.patch.object(ga.Classifier, "scores", self._method(self._scores)),
            mock.patch.object(TracedStem, "__init__", self._method(self._stem)),
            mock.patch.object(torch.autograd, "grad", self._grad),
            mock.patch.object(Traced, "__call__", self._method(self._traced)),
        ]

    def __enter__(self) -> None:
        for patch in self._patches:
            patch.start()

    def __exit__(self, *error: object) -> None:
        for patch in self._patches:
            patch.stop()

    @staticmethod
    def _method(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda owner, *args: function(owner, *args)

    def _scores(self, net: ga.Classifier, x: Tensor) -> Tensor:
        if not self._depth:
            self.passes.note("forward", x)
        return self._plain[0](net, x)

    def _stem(self, stem: TracedStem, *args: Any) -> None:
        """What is counted is the use of a trace, not its making."""
        self._depth += 1
        try:
            self._plain[1](stem, *args)
        finally:
            self._depth -= 1
        rest = stem.rest

        def counted(z: Tensor) -> Tensor:
            if type(z) is Tensor and not self._depth:
                self.passes.note("forward", z)
            result: Tensor = rest(z)
            return result

        stem.rest = counted  # type: ignore[assignment]

    def _grad(self, outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        found = self._plain[2](outputs, inputs, *args, **kwargs)
        x = inputs if isinstance(inputs, Tensor) else inputs[0]
        if type(x) is Tensor and x.ndim > 1 and found[0] is not None and not self._depth:
            self.passes.note("backward", x, found[0])
        return found

    def _traced(self, traced: Traced, stem: Any, batch: Any) -> Any:
        """A product of second derivatives counts as one pass each way."""
        made = self._plain[3](traced, stem, batch)

        def apply(t: Tensor) -> Tensor:
            rows = batch.x[: batch.size]
            self.passes.note("forward", rows, t[: batch.size])
            self.passes.note("backward", rows, t[: batch.size])
            return made.apply(t)

        return replace(made, apply=apply)


def bare(net: ga.Classifier, repetitions: int) -> tuple[float, float]:
    """CPU seconds of one image's forward and of its backward pass, in batches of default size."""
    x = torch.rand(2 * net.batch_size(), *net.input_shape).to(net.device, net.dtype)

    def forward() -> None:
        with torch.no_grad():
            for part in x.split(net.batch_size()):
                net.scores(part)

    def gradient() -> None:
        for part in x.split(net.batch_size()):
            at = part.clone().requires_grad_()
            torch.autograd.grad(net.scores(at)[:, 0].sum(), at)

    seconds: dict[Callable[[], None], list[float]] = {forward: [], gradient: []}
    for _ in range(repetitions + 1):  # the first one warms up
        for run, taken in seconds.items():
            started = time.process_time()
            run()
            taken.append((time.process_time() - started) / len(x))
    one, both = (median(taken[1:]) for taken in seconds.values())
    return one, max(both - one, 0.0)


def measured(experiment: Experiment, pace: tuple[float, float]) -> Experiment:
    """The same experiment, which prints a line when it has been computed."""

    def compute(run: Any, settings: Any, **given: Any) -> xr.Dataset:
        passes = Passes()
        started = time.process_time()
        with Counting(passes):
            ds = experiment.compute(run, settings, **given)
        _tell(experiment.name, passes, time.process_time() - started - passes.seconds, pace)
        return ds

    return replace(experiment, compute=compute)


def _tell(name: str, passes: Passes, seconds: float, pace: tuple[float, float]) -> None:
    needed = [passes.needed("forward"), passes.needed("backward")]
    least = sum(n * p for n, p in zip(needed, pace, strict=True))
    print(
        f"{name:26}{passes.forward:12,}{needed[0]:12,}{passes.backward:12,}{needed[1]:12,}"
        f"{seconds:9.1f}{least / seconds:9.0%}",
        flush=True,
    )


def main(flags: Flags) -> None:
    """Prints one line per experiment, in the order in which they run."""
    torch.set_num_threads(flags.threads)
    net = ga.load_network(flags.network)
    pace = bare(net, flags.repetitions)
    print(f"{net.name}: {1 / pace[0]:,.0f} forward, {1 / sum(pace):,.0f} gradients a CPU second")
    print(f"{'':26}{'forward':>12}{'needed':>12}{'backward':>12}{'needed':>12}{'CPU s':>9}  share")
    with tempfile.TemporaryDirectory() as folder:
        place = Place(results=Path(folder), progress=False)
        study = study_of(flags.network, None, place, given=json.loads(flags.settings))
        table = map(partial(measured, pace=pace), EXPERIMENTS)
        runner = Runner(study, table, say=lambda line: None)
        for name in flags.only or [e.name for e in EXPERIMENTS if e.in_paper]:
            runner.run(name)


if __name__ == "__main__":
    main(tyro.cli(Flags))
