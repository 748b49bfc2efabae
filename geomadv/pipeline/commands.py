"""The commands of `geomadv`: what each takes, and what it does."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from geomadv import distributed
from geomadv.errors import InputError
from geomadv.networks import network_cards
from geomadv.pipeline.check import card, checked
from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.figures import draw, draw_experiment
from geomadv.pipeline.runner import Runner
from geomadv.pipeline.settings import with_given
from geomadv.pipeline.show import listed, shown
from geomadv.pipeline.study import Place, Subject, study
from geomadv.pipeline.table import EXPERIMENTS
from geomadv.pipeline.verdicts import claims

# Without these, nothing else makes sense.
_ESSENTIAL = ("train", "boundary")

_Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Flags:
    """Flags of commands that run or look at experiments."""

    subject: tyro.conf.OmitArgPrefixes[Subject] = Subject()  # noqa: RUF009 (frozen)
    place: tyro.conf.OmitArgPrefixes[Place] = Place()  # noqa: RUF009 (frozen)
    seed: int | None = None
    """Seed of every random choice; default: that of the existing result, else 0."""
    settings: Path | None = None
    """TOML file with any of these flags, and a table per experiment; flags given here win."""
    also: _Names = ()
    """Experiments of your own, package.module:experiment."""
    progress: Literal["auto", "off"] = "auto"
    """off: no progress bars; auto: bars, in a log file a line a minute."""
    quiet: bool = False
    """Print errors only."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _PaperFlags(_Flags):
    """Flags of `geomadv paper`."""

    only: _Names = ()
    """These experiments alone (what they start from runs first where it is missing)."""
    skip: _Names = ()
    """All but these."""


def run(argv: Sequence[str]) -> None:
    """Runs experiments; what they start from runs first where it is missing."""
    names = [*_leading(argv)]
    table = _table(argv, names)
    flags, given = _parsed(_Flags, argv[len(names) :], names, table, "run EXPERIMENT...")
    if not names:
        raise InputError(f"name an experiment: {', '.join(table)}.")
    _refuse_failed(_run_all(flags, given, names, table, essential=tuple(names))[1])


def paper(argv: Sequence[str]) -> None:
    """Runs all experiments in order, draws their figures and answers the papers' claims."""
    table = _table(argv, [])
    flags, given = _parsed(_PaperFlags, argv, list(table), table, "paper")
    unknown = [n for n in (*flags.only, *flags.skip) if n not in table]
    if unknown:
        raise InputError(f"{', '.join(unknown)}: no experiment; there are {', '.join(table)}.")
    chosen = flags.only or [n for n, e in table.items() if e.in_paper]
    names = [n for n in table if n in chosen and n not in flags.skip]
    folder, failed = _run_all(flags, given, names, table, essential=_ESSENTIAL)
    if distributed.is_main() and not flags.quiet:
        print(f"\n{claims(folder)}\nresults: {folder}\nfigures: {folder / 'figures'}")
    _refuse_failed(failed)


def _run_all(
    flags: Any,
    given: Mapping[str, Any],
    names: Sequence[str],
    table: Mapping[str, Experiment],
    essential: Sequence[str],
) -> tuple[Path, list[str]]:
    """Runs the experiments; the folder of their results, and which were refused on the way.

    One that is not essential does not keep the others from running.
    """
    say: Callable[[str], None] = (lambda _: None) if flags.quiet else _print
    runner = _runner(flags, given, table, say)
    for name in names:  # all settings, before any work
        runner.check(name)
    runner.say(card(runner.study))
    failed = []
    for number, name in enumerate(names, 1):
        runner.say(f"\nanalysis {number} of {len(names)} · {name}")
        started = time.perf_counter()
        try:
            runner.say(table[name].tell(runner.run(name)))
            runner.say(f"{runner.study.path(name)} ({time.perf_counter() - started:.0f} s)")
            if distributed.is_main():
                draw_experiment(table[name], runner.study.folder, say, only_newer=True)
        except InputError as error:
            if name in essential:
                raise
            failed.append(name)
            print(f"error: {name}: {error}", file=sys.stderr)
    return runner.study.folder, failed


def _refuse_failed(names: Sequence[str]) -> None:
    if names:
        raise InputError(f"these failed, see their messages above: {', '.join(names)}")


def _print(line: str) -> None:
    print(line, flush=True)


def _runner(
    flags: _Flags,
    given: Mapping[str, Any],
    table: Mapping[str, Experiment],
    say: Callable[[str], None] = _print,
) -> Runner:
    place = dataclasses.replace(flags.place, progress=flags.progress == "auto" and not flags.quiet)
    return Runner(study(flags.subject, place, flags.seed, given), table.values(), say)


def check(argv: Sequence[str]) -> None:
    """Shows what a run would work on: network, images, accuracy, settings, effort; nothing runs."""
    names = _leading(argv)
    table = _table(argv, names)
    flags, given = _parsed(_Flags, argv[len(names) :], names, table, "check [EXPERIMENT...]")
    print(checked(_runner(flags, given, table), names))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Folder:
    """Flags of commands that read the results of a network."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of one network's results; default: that of --network below --results."""
    network: str = "digits-cnn"
    """Network whose results are read."""
    results: Path = Path("results")
    """Folder of all results."""

    @property
    def chosen(self) -> Path:
        """The folder."""
        return self.folder or self.results / self.network


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Figures(_Folder):
    """Flags of `geomadv figures`."""

    only: _Names = ()
    """These figures alone."""
    also: _Names = ()
    """Experiments of your own, package.module:experiment."""


def figures(argv: Sequence[str]) -> None:
    """Draws the figures of all results in a folder."""
    flags = _cli(_Figures, argv, "figures", figures)
    draw(flags.chosen, flags.only, experiments=_with_own(flags.also).values())


def claims_(argv: Sequence[str]) -> None:
    """Answers the papers' claims from the results in a folder."""
    print(claims(_cli(_Folder, argv, "claims", claims_).chosen))


def list_(argv: Sequence[str]) -> None:
    """Lists the experiments: what each needs, what is done, what is stale and why.

    `geomadv list networks [NAME...]` lists the networks instead, a card each.
    """
    if argv[:1] == ["networks"]:
        print(network_cards(argv[1:]))
        return
    table = _table(argv, [])
    flags, given = _parsed(_Flags, argv, [], table, "list")
    print(listed(_runner(flags, given, table)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _File:
    """Flags of `geomadv show`."""

    file: Annotated[Path, tyro.conf.Positional]
    """A result file."""


def show(argv: Sequence[str]) -> None:
    """Shows a result file: where it comes from, its variables, the command that makes it again."""
    print(shown(_cli(_File, argv, "show", show).file))


# Parsing


def _leading(argv: Sequence[str]) -> list[str]:
    """The words before the first flag: the experiments."""
    first = next((i for i, word in enumerate(argv) if word.startswith("-")), len(argv))
    return [word if ":" in word else word.replace("-", "_") for word in argv[:first]]


def _table(argv: Sequence[str], names: list[str]) -> dict[str, Experiment]:
    """All experiments by name, those of the user's own too, whose names then replace the places."""
    own = [name for name in names if ":" in name]
    if "--also" in argv:
        rest = argv[argv.index("--also") + 1 :]
        own += _leading(rest)
    table = _with_own(own)
    for i, name in enumerate(names):
        if ":" in name:
            names[i] = _own(name).name
    return table


def _with_own(places: Sequence[str]) -> dict[str, Experiment]:
    known = [*EXPERIMENTS, *(_own(place) for place in places)]
    return {experiment.name: experiment for experiment in known}


def _own(place: str) -> Experiment:
    """The experiment package.module:name; the current folder is searched too."""
    module, _, attribute = place.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{place}: {error}. Expected package.module:experiment, a geomadv.pipeline.Experiment."
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(found, Experiment):
        raise InputError(f"{place} is a {type(found).__name__}, expected an Experiment.")
    return found


def _cli(kind: Any, argv: Sequence[str], name: str, command: Callable[..., Any]) -> Any:
    return tyro.cli(kind, args=list(argv), prog=f"geomadv {name}", description=command.__doc__)


def _parsed(
    kind: type[_Flags],
    argv: Sequence[str],
    names: Sequence[str],
    table: Mapping[str, Experiment],
    prog: str,
) -> tuple[Any, dict[str, dict[str, Any]]]:
    """The flags, and of the experiments' settings those that were given."""
    file = _toml(argv)
    shown = _with_inputs([n for n in names if n in table], table)
    fields = [(n, table[n].settings, dataclasses.field(default=table[n].settings())) for n in shown]
    extended = dataclasses.make_dataclass(
        kind.__name__, fields, bases=(kind,), frozen=True, kw_only=True
    )
    top = {k: v for k, v in file.items() if k not in table}
    default = extended(**_from_file(top))
    words = table[names[0]].summary if len(names) == 1 and names[0] in table else kind.__doc__
    flags = tyro.cli(
        extended, args=list(argv), prog=f"geomadv {prog}", description=words, default=default
    )
    given = {n: dict(file[n]) for n in table if n in file}
    for name, path in _given(argv, shown):
        value, target = getattr(flags, name), given.setdefault(name, {})
        for part in path[:-1]:
            value, target = getattr(value, part), target.setdefault(part, {})
        target[path[-1]] = getattr(value, path[-1])
    return flags, given


def _with_inputs(names: Sequence[str], table: Mapping[str, Experiment]) -> list[str]:
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
            found.append((name, [*path[:-1], path[-1].removeprefix("no_")]))
    return found


def _toml(argv: Sequence[str]) -> dict[str, Any]:
    """The file of --settings; empty if none is named."""
    named = [word for word in argv if word.split("=")[0] == "--settings"]
    if not named:
        return {}
    _, _, path = named[0].partition("=")
    path = path or next(iter(argv[argv.index("--settings") + 1 :]), "")
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"--settings {path}: {error}.") from error


def _from_file(top: Mapping[str, Any]) -> dict[str, Any]:
    """Flags of subject, place and the run itself, as the TOML file gives them."""
    parts: dict[str, Any] = {}
    for name, kind in (("subject", Subject), ("place", Place)):
        fields = {f.name for f in dataclasses.fields(kind)}
        own = {k: v for k, v in top.items() if k in fields and k != "progress"}
        parts[name] = with_given(kind(), own)
    known = {f.name for f in dataclasses.fields(Subject)} | {
        f.name for f in dataclasses.fields(Place)
    }
    rest = {k: v for k, v in top.items() if k not in known}
    unknown = [k for k in rest if k not in ("seed", "progress", "quiet", "also", "only", "skip")]
    if unknown:
        raise InputError(f"--settings: {', '.join(unknown)} is neither a flag nor an experiment.")
    return parts | {k: tuple(v) if isinstance(v, list) else v for k, v in rest.items()}
