"""Runs experiments: reuses what is the same result, computes the rest, and knows what is stale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import xarray as xr

from geomadv import distributed, results
from geomadv.errors import InputError, closest
from geomadv.images import ImageSet
from geomadv.pipeline.card import check_beside
from geomadv.pipeline.computing import Computation, Images, Say, compute
from geomadv.pipeline.experiment import Experiment, tabled
from geomadv.pipeline.identity import identity
from geomadv.pipeline.provenance import Asked
from geomadv.pipeline.roles import check_held_out, check_labels, of_split
from geomadv.pipeline.settings import differing, field_names, normalised, with_given
from geomadv.pipeline.study import Study, check_common_class, sampled
from geomadv.pipeline.work import Case
from geomadv.results.files import entries, holding, read_attrs
from geomadv.results.identity import Identity, plain

# Once in parts, which no filter makes smaller, and once in the result.
_ROOM = 2.4


@dataclass(frozen=True)
class Status:
    """What there is of a result: "done", "stale", "unfinished" or "missing", and why."""

    state: str
    reasons: tuple[str, ...] = ()


class Runner:
    """Runs the experiments of a table on one study.

    Args:
        study: network, images, folder, given settings.
        experiments: all that are known; their order is that of a whole paper.
        say: where lines about progress and answers go.
    """

    def __init__(self, study: Study, experiments: Iterable[Experiment], say: Say = print) -> None:
        self.study = study
        self.table = tabled(experiments)
        self.say: Say = say if distributed.is_main() else lambda _: None
        # What this process has found to be current, or has computed.
        self._current: dict[str, Identity] = {}
        # What will be reused or computed, and what is or was computed by this process.
        self._plans: dict[str, Computation] = {}
        self._renewed: set[str] = set()
        # Seconds that each result took which was computed now.
        self.computed: dict[str, float] = {}
        # What was asked for by name: a given seed is theirs; what they start from keeps its own.
        self._named: set[str] = set()

    def find(self, name: str) -> Experiment:
        """The experiment of a name; raises `InputError` with the most similar name."""
        if name not in self.table:
            raise InputError(
                f"{name!r} is no experiment.{closest(name, list(self.table))} There are "
                f"{', '.join(self.table)}."
            )
        return self.table[name]

    # Settings

    def check(self, *names: str) -> None:
        """Notes all that will be asked for by name.

        Raises:
            InputError: settings that cannot be used, theirs or of what they start from.
        """
        self._named.update(names)
        for name in names:
            self._check(name)

    def _check(self, name: str) -> None:
        self.asked(name)
        for i in self.find(name).inputs:
            self._check(i)

    def asked(self, name: str) -> Asked:
        """The settings of the existing or unfinished result, with those that the user gave.

        Raises:
            InputError: a given setting differs from the existing result's (without --overwrite),
                or cannot be used.
        """
        experiment, study = self.find(name), self.study
        stored = distributed.on_main(lambda: self._stored_config(name))
        before_seed = stored.pop("seed", None)
        # A setting that is known no more cannot be kept; the result is stale by its identity.
        known = {k: v for k, v in stored.items() if k in field_names(experiment.settings)}
        before = normalised(with_given(experiment.settings(), known, f"{name}."))
        raw = normalised(with_given(before, study.given.get(name, {}), f"{name}."))
        with holding(study.path(name), "its seed"):
            seed = int(before_seed or 0)
        if study.seed is not None and (name in self._named or not stored):
            seed = study.seed
        if stored and not study.place.overwrite:
            self._refuse_others(name, differing(raw, before), before, (before_seed, seed))
        return Asked(raw, normalised(experiment.resolve(raw, study.net)), seed)

    def _stored_config(self, name: str) -> dict[str, Any]:
        """Settings and seed of the result that there is, else of the one that was begun."""
        path = self.study.path(name)
        if path.exists():
            return entries(path, read_attrs(path), "config")
        return dict(results.unfinished(path) or {})

    def _refuse_others(
        self, name: str, other: Mapping[str, Any], before: Any, seeds: tuple[int | None, int]
    ) -> None:
        found = [f"{k}: {plain(getattr(before, k))} -> {v}" for k, v in other.items()]
        if seeds[0] not in (None, seeds[1]):
            found.append(f"seed: {seeds[0]} -> {seeds[1]}")
        if found:
            path = self.study.path(name)
            raise InputError(
                f"{path} {'holds' if path.exists() else 'was begun as'} another result "
                f"({'; '.join(found)}): use --overwrite to replace it, or another --results folder "
                "to keep both."
            )

    # Identity

    def _formed(
        self, name: str, asked: Asked, images: Images, inputs: Mapping[str, Identity]
    ) -> Computation:
        """What the result is made of, and the identity that follows; nothing is computed."""
        experiment, study = self.find(name), self.study
        beside = experiment.networks(asked.settings, study) if experiment.networks else ()
        networks = (study.net, *beside)
        before = {i: results.digest(known) for i, known in inputs.items()}
        formed = identity(experiment, asked.settings, asked.seed, networks, images, before)
        return Computation(experiment, asked, networks, images, formed)

    def images(self, name: str) -> Images:
        """The images that an experiment would use now, by role; raises `InputError` as `run`."""
        return self._images(name, self.asked(name))

    def _images(self, name: str, asked: Asked) -> Images:
        samples, split = self.find(name).images, self.study.split
        if {sample.split for sample in samples.values() if sample.classes} == {"train", "test"}:
            check_common_class(split("train"), split("test"), name)
        return {
            role: sampled(split(sample.split), sample, asked.settings, asked.seed)
            for role, sample in samples.items()
        }

    def case(self, name: str, also: Iterable[str] = ()) -> Case:
        """What an experiment would work on, for its estimate; nothing but images is loaded.

        also: results that will be there, beside those that are.
        """
        asked, experiment = self.asked(name), self.find(name)
        count = {role: len(part or ()) for role, part in self._images(name, asked).items()}
        optional = [i for i in experiment.optional if i in also]
        inputs = dict.fromkeys([*self.inputs_there(name), *optional])
        return Case(
            self.study.net,
            asked.settings,
            count,
            inputs={i: self.case(i, also) for i in inputs},
        )

    def _sample_of(self, name: str, images: Images) -> list[ImageSet]:
        """The images of split train that a result depends on, of itself and what is before it."""
        own = of_split(self.find(name), images, "train")
        before = [
            self._sample_of(i, self._images(i, self.asked(i))) for i in self.inputs_there(name)
        ]
        return own + [part for parts in before for part in parts]

    def exists(self, name: str) -> bool:
        """Whether there is a finished result, of whatever identity."""
        return distributed.on_main(self.study.path(name).exists)

    def inputs_there(self, name: str) -> list[str]:
        """The inputs of an experiment, and those of the optional ones that are or will be there."""
        experiment, known = self.find(name), {*self._plans, *self._current}
        there = [i for i in experiment.optional if i in known or self.exists(i)]
        return [*experiment.inputs, *there]

    def accept(self, name: str, identity: Identity) -> None:
        """Takes a result, which is there or will be when it is needed, as current."""
        self._current[name] = identity

    def status(self, name: str) -> Status:
        """What there is of a result; nothing is computed."""
        path = self.study.path(name)
        if not path.exists():
            return Status("unfinished" if results.unfinished(path) else "missing")
        inputs = self.inputs_there(name)
        broken = {i: s.state for i in inputs if (s := self.status(i)).state != "done"}
        if broken:
            return Status("stale", tuple(f"{i} is {state}" for i, state in broken.items()))
        try:
            stored = results.stored_identity(path)
        except InputError as error:
            return Status("stale", (str(error),))
        before = {i: results.stored_identity(self.study.path(i)) for i in inputs}
        asked = self.asked(name)
        plan = self._formed(name, asked, self._images(name, asked), before)
        found = tuple(results.differences(stored, plan.identity))
        return Status("stale" if found else "done", found)

    # Running

    def run(self, name: str) -> xr.Dataset:
        """The result of an experiment: the existing one if it is the same, else computed.

        Inputs that are missing run first.

        Raises:
            InputError: the result, or one that it starts from, is stale (without --refresh) or
                has other settings than those given (without --overwrite), which is said before
                anything runs; or what the experiment itself refuses.
        """
        if name not in self._named:
            self._named.add(name)
            self._plans.pop(name, None)
        try:
            self.plan(name)
            return self._obtain(name)
        except InputError:
            self._plans.clear()
            raise

    def plan(self, name: str) -> Identity:
        """Decides what is reused and what computed, from the first input on; nothing runs.

        Returns:
            The identity of the result.

        Raises:
            InputError: as `run`, but for what the experiment refuses.
        """
        if name in self._plans:
            return self._plans[name].identity
        asked, experiment = self.asked(name), self.find(name)
        images = self._images(name, asked)
        # What is wrong with them, before what comes before.
        check_labels(experiment, images)
        sample, held_out = self._sample_of(name, images), of_split(experiment, images, "test")
        check_held_out(self.study, name, held_out, sample, self.say)
        # First these, since what they start from may be an optional one of this.
        required = {i: self._identity(i) for i in experiment.inputs}
        inputs = {i: required.get(i) or self._identity(i) for i in self.inputs_there(name)}
        plan = self._formed(name, asked, images, inputs)
        needed = distributed.on_main(lambda: self._needs_computing(plan))
        if needed:
            check_beside(self.study, plan.networks[1:], self.say)
            self._renewed.add(name)
        self._plans[name] = replace(plan, needed=needed)
        return plan.identity

    def _identity(self, name: str) -> Identity:
        return self._current[name] if name in self._current else self.plan(name)

    def _needs_computing(self, plan: Computation) -> bool:
        name, place = plan.experiment.name, self.study.place
        if place.overwrite and name in self._named:
            return True
        # What was given, or starts from what is replaced, is meant to be replaced as well.
        changed = bool(self.study.given.get(name) or self._renewed & set(plan.identity["inputs"]))
        refresh = place.refresh or (place.overwrite and changed)
        return results.reuse(self.study.path(name), plan.identity, refresh=refresh) is None

    def _obtain(self, name: str) -> xr.Dataset:
        self.plan(name)
        plan = self._plans[name]
        for i in plan.identity["inputs"]:
            if i not in self._current:
                if not self.exists(i):
                    self.say(f"{name} starts from {i}, which is missing: it runs first")
                self.tell(i, self._obtain(i))
        if plan.needed:
            self._compute(plan)
        self._current[name] = plan.identity
        self._plans.pop(name, None)
        return self._load(name)

    def tell(self, name: str, ds: xr.Dataset) -> str:
        """Says what a result tells, and gives its headline.

        Raises:
            InputError: it was changed since it was computed, and lacks what is to be told.
        """
        experiment = self.find(name)
        with holding(self.study.path(name), "its headline"):
            told = experiment.tell(ds)
        self.say(told)
        return experiment.briefly(told)

    def _load(self, name: str) -> xr.Dataset:
        """A result that is current, unless another process has just replaced it."""
        path = self.study.path(name)
        ds = results.load(path)
        stored = entries(path, ds.attrs, "identity")
        if other := results.differences(stored, self._current[name]):
            raise InputError(
                f"{path} was replaced meanwhile by another process "
                f"({'; '.join(other)}): let it finish, then run this again."
            )
        return ds

    def _compute(self, plan: Computation) -> None:
        name = plan.experiment.name
        inputs: dict[str, xr.Dataset | None] = dict.fromkeys(plan.experiment.optional) | {
            i: self._load(i) for i in plan.identity["inputs"]
        }
        self.computed[name] = compute(plan, self.study, inputs, self._disk(plan), self.say)

    def _disk(self, plan: Computation) -> int:
        """Bytes that the parts and the result may take."""
        work, case = plan.experiment.work, self.case(plan.experiment.name)
        return int(_ROOM * work(case).disk(plan.experiment.schema, case)) if work else 0
