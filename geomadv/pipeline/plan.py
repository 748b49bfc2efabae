"""What experiments would cost, before they run: passes, time, memory and disk."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch

from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.networks.cache import is_at_hand
from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.pace import Pace
from geomadv.pipeline.runner import Runner
from geomadv.pipeline.settings import merged
from geomadv.pipeline.study import Study
from geomadv.pipeline.work import FORWARD, GRADIENT, Product

# Seconds that an experiment takes without any work: identity, files, figures' data.
_AT_LEAST = 0.12
_HEAD = ("experiment", "state", "passes", "time", "memory", "disk", "quick")


@dataclass(frozen=True)
class Estimate:
    """What one experiment would cost.

    Attributes:
        gradients: passes through its networks, in gradients: a forward pass is a third.
        seconds: of one process on this machine.
        memory: bytes at the peak.
        disk: bytes of the result's file.
    """

    gradients: float
    seconds: float
    memory: float
    disk: float


class Planner:
    """Estimates of the experiments of a runner; what they share is measured once.

    Args:
        runner: of the study.
        before: estimates on the same network, whose measurements serve these, too.

    Attributes:
        refused: experiment -> why it cannot run on these images.
    """

    def __init__(self, runner: Runner, before: Planner | None = None) -> None:
        self.runner, study = runner, runner.study
        self.refused: dict[str, str] = {}
        self._paces: dict[int, Pace] = before._paces if before else {}
        # Each network beside is loaded once.
        beside = before._study.beside if before else cache(partial(_beside, study))
        self._study: Study = replace(study, beside=beside, say=lambda _: None)

    def estimates(self, names: Sequence[str]) -> dict[str, Estimate | None]:
        """What experiments would cost; None where nobody knows, and where they are refused."""
        found: dict[str, Estimate | None] = {}
        # Heavy ones last: what measuring Hessian products and networks beside takes is no other's.
        weights = {name: self._weight(name, names) for name in names}
        for weight in sorted({*weights.values()}):
            group = [name for name in names if weights[name] == weight]
            own = {name: self._arrays_or_none(name, names) for name in group}
            # What the measuring took, with the network, images and batches that all of them have.
            base = peak_bytes(self.runner.study.net)
            found |= {n: e and replace(e, memory=base + e.memory) for n, e in own.items()}
        return {name: found[name] for name in names}

    def _weight(self, name: str, also: Sequence[str]) -> int:
        """2 with networks beside, 1 with Hessian products, else 0."""
        experiment = self.runner.find(name)
        if experiment.networks:
            return 2
        if experiment.work is None:
            return 0
        try:
            units = experiment.work(self.runner.case(name, also)).units
        except InputError:  # told when it is estimated
            return 0
        return int(any(isinstance(unit, Product) for unit in units))

    def _arrays_or_none(self, name: str, also: Sequence[str]) -> Estimate | None:
        try:
            return self._arrays(name, also)
        except InputError as error:
            self.refused[name] = str(error)
            return None

    def _arrays(self, name: str, also: Sequence[str]) -> Estimate | None:
        """The costs of an experiment, of memory that of its own arrays alone."""
        experiment = self.runner.find(name)
        if experiment.work is None:
            return None
        nets = self._networks(experiment, name)
        case = replace(self.runner.case(name, also), networks=len(nets))
        each = [(self.pace(net), experiment.work(replace(case, net=net))) for net in nets]
        return Estimate(
            sum(pace.gradients(work) for pace, work in each),
            _AT_LEAST + sum(pace.seconds(work) for pace, work in each),
            max(work.memory for _, work in each),
            each[0][1].disk(experiment.schema, case),
        )

    def quick(self) -> Planner:
        """The same with the settings of `--quick`."""
        study = self.runner.study
        given = with_quick(study.given, self.runner.table, study.net)
        hurried = replace(study, given=given, place=replace(study.place, overwrite=True))
        return Planner(Runner(hurried, self.runner.table.values(), self.runner.say), self)

    def _networks(self, experiment: Experiment, name: str) -> tuple[Classifier, ...]:
        settings = self.runner.asked(name).settings
        beside = experiment.networks(settings, self._study) if experiment.networks else ()
        return (self.runner.study.net, *beside)

    def pace(self, net: Classifier) -> Pace:
        """The speed of a network."""
        if id(net) not in self._paces:
            self._paces[id(net)] = Pace(net, self.runner.study.split("train"))
        return self._paces[id(net)]


def _beside(study: Study, name: str) -> Classifier:
    """A network beside the first; the first in its place where it would have to be trained."""
    return study.beside(name) if is_at_hand(name) else study.net


def peak_bytes(net: Classifier) -> int:
    """The most memory that this process has had, on the network's device."""
    if net.device.type == "cuda":
        return torch.cuda.max_memory_allocated(net.device)
    if sys.platform == "win32":
        return 0  # it does not tell
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def planned(runner: Runner, names: Sequence[str]) -> str:
    """The table of what these experiments would cost; nothing runs.

    Raises:
        InputError: as `Runner.check`.
    """
    runner.check(*names)
    states = {name: runner.status(name).state for name in names}
    full = Planner(runner)
    quick = full.quick()
    found, brief = full.estimates(names), quick.estimates(names)
    todo = [name for name in names if states[name] != "done"]
    rows = [_HEAD, *(_row(name, states[name], found[name], brief[name]) for name in names)]
    rows.append(_row(f"total ({len(todo)} to do)", "", _sum(found, todo), _sum(brief, names)))
    refused = [f"{name}: {reason}" for name, reason in full.refused.items()]
    lines = [pace_line(full.pace(runner.study.net)), "", *lined(rows), "", *refused, _FOOT]
    return "\n".join(lines)


_FOOT = (
    "passes in gradients (a forward pass is a third), time of one process on this machine; what is "
    "done is reused and not in the total. quick: time with --quick."
)


def with_quick(
    given: Mapping[str, Mapping[str, Any]], table: Mapping[str, Experiment], net: Classifier
) -> dict[str, dict[str, Any]]:
    """The settings of `--quick` for every experiment; those given win."""
    return {
        name: merged(e.quick_settings(net.dimension), given.get(name, {}))
        for name, e in table.items()
    }


def pace_line(pace: Pace) -> str:
    """How fast the network is here, in a line."""
    net = pace.net
    forward, gradient = (1e3 * pace.of(unit).seconds for unit in (FORWARD, GRADIENT))
    at_once = net.batch_size()
    return (
        f"{net.name} on {net.device}: {forward:.3g} ms a forward pass, {gradient:.3g} ms a "
        f"gradient, {at_once} images at a time in {size(at_once * net.bytes_per_image)}"
    )


def words(estimate: Estimate | None) -> tuple[str, ...]:
    """Passes, time, memory and disk for people."""
    if estimate is None:
        return ("?",) * 4
    passes = estimate.gradients
    few = rounded(passes, 2) if passes < 1e4 else _large(passes)
    return (few, span(estimate.seconds), size(estimate.memory), size(estimate.disk))


def rounded(number: float, digits: int = 3) -> str:
    """So many digits of a number, zeros after them, never an exponent below a million."""
    return f"{float(f'{number:.{digits}g}'):g}"


def _large(number: float) -> str:
    for power, unit in ((1e9, "G"), (1e6, "M")):
        if number >= power:
            return f"{rounded(number / power)} {unit}"
    return f"{rounded(number / 1e3)} k"


def span(seconds: float) -> str:
    """A duration for people."""
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{rounded(seconds / length)} {unit}"
    return f"{rounded(seconds, 2)} s"


def size(count: float) -> str:
    """A number of bytes for people."""
    for power, unit in ((30, "GiB"), (20, "MiB")):
        if count >= 2**power:
            return f"{rounded(count / 2**power)} {unit}"
    return f"{rounded(count / 2**10)} KiB"


def _row(name: str, state: str, now: Estimate | None, quick: Estimate | None) -> tuple[str, ...]:
    return (name, state, *words(now), span(quick.seconds) if quick else "?")


def _sum(found: Mapping[str, Estimate | None], names: Sequence[str]) -> Estimate:
    known = [e for name in names if (e := found[name])]
    return Estimate(
        sum(e.gradients for e in known),
        sum(e.seconds for e in known),
        max((e.memory for e in known), default=0),
        sum(e.disk for e in known),
    )


def lined(rows: Sequence[Sequence[str]], left: Sequence[int] = (0, 1)) -> list[str]:
    """Rows of a table as lines; the columns `left` begin alike, the others end alike."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
