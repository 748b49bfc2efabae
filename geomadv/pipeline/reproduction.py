"""Runs again what a result file says, beside it, and tells how far the numbers agree."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from geomadv import results
from geomadv.classifier import Classifier
from geomadv.errors import InputError, decoding
from geomadv.images import ImageSet
from geomadv.networks.sources import states_shape
from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.flags import Flags, own_places, parsed, runner_of, with_own
from geomadv.pipeline.runner import Runner
from geomadv.pipeline.study import Place, study_of
from geomadv.pipeline.table import EXPERIMENTS
from geomadv.results.agreement import Agreement, agreements, told
from geomadv.results.files import entries, read_attrs
from geomadv.results.identity import Identity
from geomadv.results.provenance import program_version
from geomadv.results.reuse import stored_identity

Say = Callable[[str], None]
# Words of a command line behind `geomadv run`, and where results go -> a runner of what they say.
_Words = tuple[str, ...]
_Make = Callable[[_Words, Path], Runner]

# What the program makes of a question; the rest of an identity is the question.
_PROGRAM = ("version", "schema")


@dataclass(frozen=True)
class Reproduction:
    """A result that was computed again.

    Attributes:
        path: the file.
        agreements: of every variable.
        notes: what was otherwise than when the file was written.
    """

    path: Path
    agreements: tuple[Agreement, ...]
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether no variable differs by more than rounding."""
        return all(a.agrees for a in self.agreements)

    def __str__(self) -> str:
        answer = "reproduced" if self.same else "NOT reproduced"
        lines = [*(f"note: {note}" for note in self.notes), *map(str, self.agreements)]
        return "\n".join([*lines, f"{self.path}: {answer}, {told(self.agreements)}"])


@dataclass(frozen=True)
class _Recorded:
    """What a result file says about how it came about."""

    path: Path
    attrs: Mapping[str, Any]
    identity: Identity
    # As the user sees them, of a full set of settings.
    settings: Mapping[str, Any]
    seed: int
    # Words behind `geomadv run`, of what it starts from and then its own; none where it was
    # computed from objects in Python, which no text can name.
    commands: tuple[_Words, ...]

    @property
    def name(self) -> str:
        """The experiment."""
        return str(self.attrs["experiment"])


def reproduce(
    path: str | os.PathLike[str],
    net: Classifier | str | None = None,
    images: ImageSet | str | os.PathLike[str] | Mapping[str, ImageSet] | None = None,
    *,
    batch_size: int | None = None,
    progress: bool = True,
    also: Sequence[Experiment] = (),
    say: Say = print,
) -> Reproduction:
    """Computes a result again as its file says, elsewhere, and compares: `geomadv reproduce`.

    Settings, seed, network and images are those that the file records; results that it starts from
    are taken from beside it where they are the recorded ones, else computed again. What is missing
    or another than then is said before any work. The file itself is never changed.

    Args:
        path: the result file.
        net: the network, where it was an object; default: what the file names.
        images: as for `geomadv.run`; default: what the file names.
        batch_size: images per pass; default: as then.
        progress: show progress bars.
        also: experiments of your own that the result is of, or starts from.
        say: where lines about the progress go.

    Returns:
        Reproduction: `same`, and for every variable whether it is identical, equal to rounding
        (see `geomadv.results.agreement.BOUND`) or different. Durations are not compared.

    Raises:
        InputError: the file is damaged, or does not say what is needed, which is named; network,
            images or earlier results are missing, or others than then; code of the author's own,
            which is run only where it is given here.
    """
    known = _recorded(Path(path))
    if net is None and images is None:
        words = ["--batch-size", str(batch_size)] if batch_size is not None else []
        words += [] if progress else ["--progress", "off"]
        return reproduce_by_words(path, words, also, say)
    if net is None or images is None:
        raise InputError(
            f"{'net' if net is None else 'images'}: give both the network and its images, or "
            "neither, which takes what the file names."
        )

    def make(_: _Words, folder: Path) -> Runner:
        place = Place(results=folder, batch_size=batch_size, progress=progress)
        return Runner(study_of(net, images, place), [*EXPERIMENTS, *also], say)

    return _again(known, make, (), say)


def reproduce_by_words(
    path: str | os.PathLike[str],
    words: Sequence[str],
    also: Sequence[Experiment] = (),
    say: Say = print,
) -> Reproduction:
    """`reproduce` by the commands that the file holds, with further flags behind them."""
    known = _recorded(Path(path))
    if not known.commands:
        call = str(known.attrs["command"]).splitlines()[-1]
        raise InputError(
            f"{path} was computed from objects in Python ({call}), which no file "
            "names: in Python, geomadv.reproduce(path, net, images) runs it again with them."
        )
    return _again(known, _ByWords(known, words, also, say), known.commands[:-1], say)


class _ByWords:
    """Runners of the lines of a file's command, with further flags behind them.

    Code that the file names, and not the flags or `also`, is refused: whoever sends a file is not
    the one to decide what is run here.
    """

    def __init__(
        self, known: _Recorded, words: Sequence[str], also: Sequence[Experiment], say: Say
    ) -> None:
        self.known, self.words, self.say = known, words, say
        self.own = own_places(words)
        recorded = own_places([word for words in known.commands for word in words])
        if not also:
            self._check("--also", recorded, self.own)
        self.table = with_own(self.own) | {experiment.name: experiment for experiment in also}

    def _check(self, flag: str, places: Sequence[str], given: Sequence[str]) -> None:
        if code := [place for place in places if place not in given]:
            raise InputError(
                f"{self.known.path} was computed with code of its author's own, which is run only "
                f"where you name it: if you trust it, repeat {flag} {' '.join(code)}."
            )

    def _check_network(self, name: str) -> None:
        self._check("--network", [] if states_shape(name) else [name], self.words)

    def __call__(self, line: _Words, folder: Path) -> Runner:
        flags, given = self._parsed(line, folder)
        self._check_network(flags.subject.network)
        runner = runner_of(flags, given, self.table, self.own, self.say)
        load = runner.study.beside

        def beside(name: str) -> Classifier:
            self._check_network(name)
            return load(name)

        runner.study.beside = beside
        return runner

    def _parsed(self, line: _Words, folder: Path) -> tuple[Flags, dict[str, dict[str, Any]]]:
        name, *flags = line
        every = [*flags, *self.words, "--results", str(folder)]
        hidden = io.StringIO()  # what the parser says of flags that the user has not written
        try:
            with contextlib.redirect_stderr(hidden), contextlib.redirect_stdout(hidden):
                return parsed(Flags, every, [name], self.table, "run EXPERIMENT...")
        except SystemExit as error:
            raise InputError(
                f"{self.known.path}: its command is none of this version: {shlex.join(line)}. "
                "Install the version that `geomadv show` names, or compute it anew."
            ) from error


def _recorded(path: Path) -> _Recorded:
    """What a file says about how it came about; raises `InputError` for one that does not."""
    attrs = read_attrs(path)
    config = entries(path, attrs, "config")
    identity = stored_identity(path) if entries(path, attrs, "identity") else {}
    lines = str(attrs.get("command", "")).splitlines()
    lacking = {
        "its experiment": attrs.get("experiment"),
        "its network": attrs.get("network"),
        "its images and what else makes it the same result": "images" in identity,
        "its settings": config,
        "the command that made it": lines and all(line.startswith((_RUN, _CALL)) for line in lines),
    }
    if missing := [words for words, found in lacking.items() if not found]:
        raise InputError(
            f"{path} cannot be run again, since it does not say {', '.join(missing)}: geomadv "
            f"{attrs['geomadv_version']} wrote it; files of `geomadv run` and `ga.run` of 0.2.0 or "
            "later say so. Compute it anew."
        )
    with decoding(str(path), "restore it from a copy, or compute it again"):
        seed = int(config.pop("seed"))
        objects = any(line.startswith(_CALL) for line in lines)
        commands = [] if objects else [_words(line) for line in lines]
        names = [*map(str, dict(identity["inputs"])), str(attrs["experiment"])]
        if wrong := [
            n for n in [*names, *(words[0] for words in commands)] if not n.isidentifier()
        ]:
            raise ValueError(f"{wrong[0]!r} is no name of an experiment")
    return _Recorded(path, attrs, identity, config, seed, tuple(commands))


_RUN, _CALL = "geomadv run ", "ga.run("


def _words(line: str) -> _Words:
    """Experiment and flags of a command line; raises ValueError for one that has none."""
    words = shlex.split(line.removeprefix(_RUN))
    if not words:
        raise ValueError("its command names no experiment")
    return tuple(words)


def _again(known: _Recorded, make: _Make, earlier: Sequence[_Words], say: Say) -> Reproduction:
    """Computes the result in a folder of its own, and compares."""
    with tempfile.TemporaryDirectory(prefix="geomadv-") as folder:
        work = _Work(known, make, Path(folder), say)
        notes = work.prepare(earlier)
        say("\n".join(f"note: {note}" for note in notes) or f"{known.path}: all is as it was then")
        ds = work.run()
        found = agreements(results.load(known.path), ds)
        return Reproduction(known.path, tuple(found), tuple(notes))


class _Work:
    """The computation of one result again.

    Args:
        known: what its file says.
        make: gives the runner of a line of its command.
        folder: where it goes.
        say: where lines about the progress go.
    """

    def __init__(self, known: _Recorded, make: _Make, folder: Path, say: Say) -> None:
        self.known, self.say, self.make, self.folder = known, say, make, folder
        self.runner = self._given(make((known.commands or ((),))[-1], folder))
        # What it starts from: those that are there, or will be, and what makes the latter.
        self.current: dict[str, Identity] = {}
        self.earlier: list[tuple[str, Runner]] = []
        self.notes = list(_other_program(known, str(self.runner.study.net.device)))

    def _given(self, runner: Runner) -> Runner:
        """The runner with all settings as the file has them, whatever is the default now."""
        settings = {self.known.name: self.known.settings}
        study = dataclasses.replace(runner.study, given=settings, seed=self.known.seed)
        return Runner(study, runner.table.values(), self.say)

    def prepare(self, earlier: Sequence[_Words]) -> list[str]:
        """Finds what it starts from, and compares the question; nothing is computed.

        earlier: lines that make again what is not there.

        Returns:
            What is otherwise than then, but may be.

        Raises:
            InputError: what is missing or another than then, so that the answer would be, too.
        """
        name = self.known.name
        self.runner.check(name)
        needed = [
            i for i, digest in self.known.identity["inputs"].items() if not self._take(i, digest)
        ]
        self._plan_earlier(needed, earlier)
        self._accept(self.runner)
        planned = self.runner.plan(name)
        other = results.differences(self.known.identity, planned)
        program = [line for line in other if line.split(":")[0].split(".")[0] in _PROGRAM]
        if changed := [line for line in other if line not in program]:
            raise InputError(
                f"{self.known.path} cannot be reproduced here, since this is another than then: "
                f"{'; '.join(changed)}. Bring back what it was computed from (--network, "
                "--weights, --images name them), and the results that lay beside it."
            )
        if program:
            self.notes.append(f"the experiment has changed since: {_shortened(program)}")
        return self.notes

    def _take(self, name: str, digest: str) -> bool:
        """Whether the recorded result lies beside the file; it is then taken from there."""
        path = self.known.path.with_name(f"{name}.h5")
        why = "is not beside it"
        if path.exists():
            try:
                stored = results.stored_identity(path)
                if results.digest(stored) == digest:
                    self._link(name, path, stored)
                    return True
                why = "beside it is another result than then"
            except InputError as error:
                why = f"beside it cannot be used ({error})"
        self.notes.append(f"{name} {why}")
        return False

    def _link(self, name: str, path: Path, identity: Identity) -> None:
        target = self.runner.study.path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path.absolute())
        self.current[name] = identity

    def _plan_earlier(self, needed: Sequence[str], lines: Sequence[_Words]) -> None:
        """Plans the commands of results that are not there, and of those that they start from."""
        wanted: set[str] = set()
        rest = list(needed)
        while rest:
            name = rest.pop()
            wanted.add(name)
            experiment = self.runner.find(name)
            before = {*experiment.inputs, *experiment.optional} - wanted - {*self.current}
            rest += before
        for line in lines:
            name = line[0]
            if name in wanted and name not in self.current:
                runner = self.make(line, self.folder)
                runner.check(name)
                self._accept(runner)
                self.current[name] = runner.plan(name)
                self.earlier.append((name, runner))
        if missing := {*needed} - {*self.current}:
            raise InputError(
                f"{self.known.path} starts from {', '.join(sorted(missing))}, which is not beside "
                "it, and which nothing that is known here makes again: put it there."
            )

    def _accept(self, runner: Runner) -> None:
        for name, identity in self.current.items():
            runner.accept(name, identity)

    def run(self) -> Any:
        """The result, after those that it starts from."""
        for name, runner in self.earlier:
            self.say(f"{name}: computed again")
            runner.run(name)
        return self.runner.run(self.known.name)


def _other_program(known: _Recorded, device: str) -> list[str]:
    """In which programs, and on which device, it was computed, where these are others now."""
    then_now = {
        "geomadv": (known.attrs["geomadv_version"], program_version()),
        "torch": (known.attrs.get("torch_version"), str(torch.__version__)),
        "the device": (known.attrs.get("device"), device),
    }
    return [f"{what}: {old} then, {new} now" for what, (old, new) in then_now.items() if old != new]


def _shortened(lines: Sequence[str]) -> str:
    more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
    return "; ".join(lines[:3]) + more
