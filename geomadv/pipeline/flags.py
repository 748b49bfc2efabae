"""Flags of the commands, and what words of a command line mean."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from geomadv import distributed
from geomadv.errors import InputError, closest
from geomadv.pipeline.experiment import Experiment, tabled
from geomadv.pipeline.plan import with_quick
from geomadv.pipeline.runner import Runner
from geomadv.pipeline.settings import with_given
from geomadv.pipeline.study import Place, Subject, study
from geomadv.pipeline.table import EXPERIMENTS

Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags of commands that run or look at experiments."""

    subject: tyro.conf.OmitArgPrefixes[Subject] = Subject()  # noqa: RUF009 (frozen)
    place: tyro.conf.OmitArgPrefixes[Place] = Place()  # noqa: RUF009 (frozen)
    seed: int | None = None
    """Seed of every random choice; default: that of the existing result, else 0."""
    settings: Path | None = None
    """TOML file with any of these flags, and a table per experiment; flags given here win."""
    also: Names = ()
    """Experiments of your own, package.module:experiment."""
    quick: bool = False
    """Small counts of everything, to see all of it in minutes: results of these settings, as the
    files say. Settings given beside it win."""
    progress: Literal["auto", "off"] = "auto"
    """off: no progress bars; auto: bars, in a log file a line a minute."""
    quiet: bool = False
    """Print errors only."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFlags(Flags):
    """Flags of `geomadv run`."""

    processes: int | Literal["auto"] = 1
    """Processes that divide the work on this machine and its cores; auto: two, where there are two
    cores and no GPU. Small networks gain from them, numbers stay the same to rounding."""

    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"])] = False
    """Explain what was chosen: device, processes, engine, batches, memory, Hessian products."""

    @property
    def several(self) -> int:
        """How many processes."""
        if self.processes != "auto":
            return self.processes
        alone = torch.cuda.device_count() or not distributed.forks_are_safe()
        return 1 if alone else min(2, torch.get_num_threads())


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperFlags(RunFlags):
    """Flags of `geomadv paper`."""

    only: Names = ()
    """These experiments alone (what they start from runs first where it is missing)."""
    skip: Names = ()
    """All but these."""


def print_line(line: str) -> None:
    """Prints a line at once, also into a file."""
    print(line, flush=True)


def runner_of(
    flags: Flags,
    given: Mapping[str, Any],
    table: Mapping[str, Experiment],
    own: Sequence[str],
    say: Callable[[str], None] = print_line,
) -> Runner:
    """The runner of all experiments on the study that flags and given settings describe."""
    place = dataclasses.replace(flags.place, progress=flags.progress == "auto" and not flags.quiet)
    subject = study(flags.subject, place, flags.seed, given)
    subject.say = say
    if flags.quick:
        subject.given = with_quick(given, table, subject.net)
    if own:  # the command of a result must find them, too
        subject.flags = {**(subject.flags or {}), "also": [*own]}
    return Runner(subject, table.values(), say)


def leading(argv: Sequence[str]) -> list[str]:
    """The words before the first flag: the experiments."""
    first = next((i for i, word in enumerate(argv) if word.startswith("-")), len(argv))
    return [word if ":" in word else word.replace("-", "_") for word in argv[:first]]


def chosen(
    argv: Sequence[str],
) -> tuple[list[str], list[str], list[str], dict[str, Experiment]]:
    """The words before the flags, what they name, places of the user's own, and all there are."""
    words = leading(argv)
    own = own_places(argv, words)
    table = with_own(own)
    named = [_own(word).name if ":" in word else word for word in words]
    # Each once, and what others start from before them.
    names = [n for n in table if n in named] + [n for n in named if n not in table]
    return words, names, own, table


def own_places(argv: Sequence[str], words: Sequence[str] = ()) -> list[str]:
    """Where the user's own experiments are, as named among the words, by --also and in the file."""
    own = [word for word in words if ":" in word]
    for i, word in enumerate(argv):
        if word.split("=")[0] == "--also":
            own += [word.removeprefix("--also=")] if "=" in word else leading(argv[i + 1 :])
    also = _toml(argv).get("also", [])
    own += map(str, also if isinstance(also, list) else [])
    return [*dict.fromkeys(own)]


def with_own(places: Sequence[str]) -> dict[str, Experiment]:
    """All experiments by name, those of the user's own too."""
    table = tabled([*EXPERIMENTS, *(_own(place) for place in places)])
    taken = [field.name for field in dataclasses.fields(PaperFlags)]
    for name in table:
        if name in taken:
            raise InputError(
                f"an experiment cannot be called {name!r}: that is a flag. Give it another name."
            )
    return table


def _own(place: str) -> Experiment:
    """The experiment package.module:name; the current folder is searched too."""
    module, _, attribute = place.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{place}: {error}. Expected package.module:experiment, a geomadv.pipeline.Experiment, "
            "in the folder from which you start, or installed."
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(found, Experiment):
        raise InputError(f"{place} is a {type(found).__name__}, expected an Experiment.")
    return found


def parse(kind: Any, argv: Sequence[str], name: str, command: Callable[..., Any]) -> Any:
    """The flags of a command, whose docstring is its help."""
    return tyro.cli(kind, args=list(argv), prog=f"geomadv {name}", description=command.__doc__)


def parsed(
    kind: type[Flags],
    argv: Sequence[str],
    names: Sequence[str],
    table: Mapping[str, Experiment],
    prog: str,
) -> tuple[Any, dict[str, dict[str, Any]]]:
    """The flags, and of the experiments' settings those that were given."""
    file = _toml(argv)
    if wrong := [n for n in table if not isinstance(file.get(n, {}), dict)]:
        raise InputError(f"--settings: {wrong[0]} = ...: expected a table, [{wrong[0]}].")
    shown = with_inputs([n for n in names if n in table], table)
    fields = [(n, table[n].settings, dataclasses.field(default=table[n].settings())) for n in shown]
    extended = dataclasses.make_dataclass(
        kind.__name__, fields, bases=(kind,), frozen=True, kw_only=True
    )
    default = _from_file(extended(), {k: v for k, v in file.items() if k not in table}, table)
    words = table[names[0]].summary if len(names) == 1 and names[0] in table else kind.__doc__
    flags = tyro.cli(
        extended, args=list(argv), prog=f"geomadv {prog}", description=words, default=default
    )
    given = {n: dict(file[n]) for n in table if n in file}
    for name, path in _given(argv, shown):
        value, target = getattr(flags, name), given.setdefault(name, {})
        for part in path[:-1]:
            value, target = getattr(value, part), target.setdefault(part, {})
        last = path[-1] if hasattr(value, path[-1]) else path[-1].removeprefix("no_")
        target[last] = getattr(value, last)
    return flags, given


def with_inputs(names: Sequence[str], table: Mapping[str, Experiment]) -> list[str]:
    """The experiments and all that they start from, in the table's order."""
    wanted, rest = set(names), list(names)
    while rest:
        new = [i for i in table[rest.pop()].inputs if i not in wanted]
        wanted.update(new)
        rest += new
    return [name for name in table if name in wanted]


def _given(argv: Sequence[str], names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The experiments' settings among the flags, as paths of field names."""
    found = []
    for word in argv:
        flag = word.removeprefix("--").split("=")[0].replace("-", "_")
        name, *path = flag.split(".")
        if word.startswith("--") and path and name in names:
            found.append((name, path))
    return found


def _toml(argv: Sequence[str]) -> dict[str, Any]:
    """The file of --settings; empty if none is named."""
    named = [word for word in argv if word.split("=")[0] == "--settings"]
    if not named:
        return {}
    _, _, path = named[0].partition("=")
    path = path or next(iter(argv[argv.index("--settings") + 1 :]), "")
    if len(named) > 1 or not path:
        raise InputError("--settings: name one TOML file.")
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # not TOML, not UTF-8
        raise InputError(
            f"--settings {path}: {error}. Expected a TOML file with a flag a line, such as "
            'network = "digits-cnn", and a table for an experiment\'s settings, such as [boundary].'
        ) from error


def _from_file(flags: Any, top: Mapping[str, Any], table: Mapping[str, Experiment]) -> Any:
    """The flags as the TOML file gives them: of subject, place and the run itself."""
    given: dict[str, dict[str, Any]] = {"subject": {}, "place": {}, "": {}}
    homes = {f.name: "" for f in dataclasses.fields(flags) if f.name not in (*given, "settings")}
    homes |= {
        f.name: part
        for part in ("subject", "place")
        for f in dataclasses.fields(getattr(flags, part))
    }
    homes["progress"] = ""
    for name, value in top.items():
        if name not in homes:
            known = [*homes, *table]
            raise InputError(
                f"--settings: {name} is neither a flag of this command nor an experiment."
                f"{closest(name, known)} There are {', '.join(known)}."
            )
        given[homes[name]][name] = value
    rest = given.pop("")
    return with_given(flags, {**given, **rest}, "--settings: ")
