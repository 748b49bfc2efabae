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

import torch
import tyro

from geomadv import distributed
from geomadv.errors import InputError, closest
from geomadv.files.places import cache_dir
from geomadv.networks import network_cards
from geomadv.pipeline.check import card, checked
from geomadv.pipeline.comparing import compare
from geomadv.pipeline.drawer import Drawer
from geomadv.pipeline.experiment import Experiment, tabled
from geomadv.pipeline.figures import draw
from geomadv.pipeline.plan import planned, quick_settings
from geomadv.pipeline.report import report
from geomadv.pipeline.runner import Runner
from geomadv.pipeline.settings import with_given
from geomadv.pipeline.show import listed, shown
from geomadv.pipeline.study import Place, Subject, folder_name, loaded_name, study
from geomadv.pipeline.table import EXPERIMENTS
from geomadv.pipeline.verdicts import claims, explained, threshold_of
from geomadv.pipeline.verify import verified

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
    quick: bool = False
    """Small counts of everything, to see all of it in minutes: results of these settings, as the
    files say. Settings given beside it win."""
    progress: Literal["auto", "off"] = "auto"
    """off: no progress bars; auto: bars, in a log file a line a minute."""
    quiet: bool = False
    """Print errors only."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _RunFlags(_Flags):
    """Flags of `geomadv run`."""

    processes: int | Literal["auto"] = 1
    """Processes that divide the work on this machine and its cores; auto: two, where there are two
    cores and no GPU. Small networks gain from them, numbers stay the same to rounding."""

    @property
    def several(self) -> int:
        """How many processes."""
        if self.processes != "auto":
            return self.processes
        alone = torch.cuda.device_count() or not distributed.forks_are_safe()
        return 1 if alone else min(2, torch.get_num_threads())


@dataclasses.dataclass(frozen=True, kw_only=True)
class _PaperFlags(_RunFlags):
    """Flags of `geomadv paper`."""

    only: _Names = ()
    """These experiments alone (what they start from runs first where it is missing)."""
    skip: _Names = ()
    """All but these."""


def run(argv: Sequence[str]) -> None:
    """Runs experiments; what they start from runs first where it is missing."""
    words, names, own, table = _chosen(argv)
    if not words and not {"-h", "--help"} & {*argv}:
        raise InputError(
            "name an experiment or several, before any flags: geomadv run EXPERIMENT... --flags. "
            f"There are {', '.join(table)}."
        )
    flags, given = _parsed(_RunFlags, argv[len(words) :], names, table, "run EXPERIMENT...")
    _refuse_failed(_run_all(flags, given, names, table, own, essential=tuple(names))[1])


def paper(argv: Sequence[str]) -> None:
    """Runs all experiments in order, draws their figures and answers the papers' claims."""
    own = _own_places(argv)
    table = _with_own(own)
    flags, given = _parsed(_PaperFlags, argv, list(table), table, "paper")
    only, skip = ([word.replace("-", "_") for word in words] for words in (flags.only, flags.skip))
    if unknown := [n for n in (*only, *skip) if n not in table]:
        raise InputError(
            f"{', '.join(unknown)}: no experiment.{closest(unknown[0], [*table])} There are "
            f"{', '.join(table)}."
        )
    chosen = only or [n for n, e in table.items() if e.in_paper]
    names = [n for n in table if n in chosen and n not in skip]
    folder, failed = _run_all(flags, given, names, table, own, essential=_ESSENTIAL)
    if distributed.is_main():
        try:
            page = report(folder, also=[*table.values()]).path
        except InputError as error:
            print(f"error: report: {error}", file=sys.stderr)
            failed, page = [*failed, "report"], None
        if not flags.quiet:
            print(f"\n{claims(folder)}\nresults: {folder}\nfigures: {folder / 'figures'}")
            print(f"report: {page or 'none'}")
    _refuse_failed(failed)


def _run_all(
    flags: Any,
    given: Mapping[str, Any],
    names: Sequence[str],
    table: Mapping[str, Experiment],
    own: Sequence[str],
    essential: Sequence[str],
) -> tuple[Path, list[str]]:
    """Runs the experiments; the folder of their results, and which were refused on the way."""
    say: Callable[[str], None] = (lambda _: None) if flags.quiet else _print
    with Drawer(table, say) as drawer:

        def work() -> tuple[Path, list[str]]:
            runner = _runner(flags, given, table, own, say)
            return _run_in_order(runner, names, given, essential, drawer)

        return distributed.together(flags.several, work)


def _run_in_order(
    runner: Runner,
    names: Sequence[str],
    given: Mapping[str, Any],
    essential: Sequence[str],
    drawer: Drawer,
) -> tuple[Path, list[str]]:
    """As `_run_all`; one that is not essential does not keep the others from running."""
    failed: list[str] = []

    def refused(name: str, error: InputError) -> None:
        if name in essential:
            raise error
        failed.append(name)
        if distributed.is_main():
            print(f"error: {name}: {error}", file=sys.stderr)

    runner.check(*names)
    for name in [n for n in names if n in essential or n in given]:
        runner.plan(name)  # whatever may be refused, before any work
    runner.say(card(runner.study))
    for number, name in enumerate(names, 1):
        runner.say(f"\nanalysis {number} of {len(names)} · {name}")
        try:
            _run_one(runner, name)
        except InputError as error:
            refused(name, error)
        else:
            drawer.draw(name, runner.study.folder)
        for drawn, failure in drawer.told(wait=number == len(names)):
            refused(drawn, failure)
    return runner.study.folder, failed


def _run_one(runner: Runner, name: str) -> None:
    started = time.perf_counter()
    runner.say(runner.find(name).tell(runner.run(name)))
    runner.say(f"{runner.study.path(name)} ({time.perf_counter() - started:.0f} s)")


def _refuse_failed(names: Sequence[str]) -> None:
    if names:
        raise InputError(f"these failed, see their messages above: {', '.join(names)}")


def _print(line: str) -> None:
    print(line, flush=True)


def _runner(
    flags: _Flags,
    given: Mapping[str, Any],
    table: Mapping[str, Experiment],
    own: Sequence[str],
    say: Callable[[str], None] = _print,
) -> Runner:
    place = dataclasses.replace(flags.place, progress=flags.progress == "auto" and not flags.quiet)
    subject = study(flags.subject, place, flags.seed, given)
    subject.say = say
    if own:  # the command of a result must find them, too
        subject.flags = {**(subject.flags or {}), "also": [*own]}
    return Runner(subject, table.values(), say)


def check(argv: Sequence[str]) -> None:
    """Shows what a run would work on: network, images, accuracy, settings, effort; nothing runs."""
    words, names, own, table = _chosen(argv)
    flags, given = _parsed(_Flags, argv[len(words) :], names, table, "check [EXPERIMENT...]")
    print(checked(_runner(flags, given, table, own), names))


def plan(argv: Sequence[str]) -> None:
    """Shows what experiments would cost: passes, time, memory and disk; nothing runs.

    Without names those of a paper. The speed is measured on this machine, for some seconds.
    """
    words, names, own, table = _chosen(argv)
    names = names or [n for n, e in table.items() if e.in_paper]
    flags, given = _parsed(_Flags, argv[len(words) :], names, table, "plan [EXPERIMENT...]")
    print(planned(_runner(flags, given, table, own), _with_inputs(names, table)))


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
        return self.folder or self.results / folder_name(loaded_name(self.network))


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
    only = [name.replace("-", "_") for name in flags.only]
    draw(flags.chosen, only, experiments=_with_own(flags.also).values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Claims(_Folder):
    """Flags of `geomadv claims`."""

    explain: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Tell a claim's sentence, source, formula, figures and threshold instead."""
    threshold: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=NUMBER...")] = ()
    """Other thresholds than the claims' own."""


def claims_(argv: Sequence[str]) -> None:
    """Answers the papers' claims from the results in a folder: claims.md and claims.json."""
    flags = _cli(_Claims, argv, "claims", claims_)
    if flags.explain is not None:
        print(explained(flags.explain))
    else:
        print(claims(flags.chosen, dict(map(threshold_of, flags.threshold))))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Report(_Folder):
    """Flags of `geomadv report`."""

    compare: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OTHER...")] = ()
    """Folders of other networks' results, or their names beside the first, to be shown with it."""
    also: _Names = ()
    """Experiments of your own, package.module:experiment."""


def report_(argv: Sequence[str]) -> None:
    """Writes report.html: what was found about a network, its claims, all figures, their origin."""
    flags = _cli(_Report, argv, "report", report_)
    beside = [folder_name(loaded_name(name)) for name in flags.compare]
    others = [
        Path(word) if Path(word).is_dir() else flags.chosen.parent / name
        for word, name in zip(flags.compare, beside, strict=True)
    ]
    table = _with_own(flags.also)
    print(f"report: {report(flags.chosen, others, [*table.values()]).path}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Compare:
    """Flags of `geomadv compare`."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of one network's results each."""
    to: Path | None = None
    """Folder to write to; default: compare, beside the folders."""
    also: _Names = ()
    """Experiments of your own, package.module:experiment."""


def compare_(argv: Sequence[str]) -> None:
    """Shows networks side by side: compare.md and compare.json, and figures with all of them."""
    flags = _cli(_Compare, argv, "compare", compare_)
    parents = [str(path.absolute().parent) for path in flags.folders] or [""]
    to = flags.to or Path(os.path.relpath(os.path.commonpath(parents))) / "compare"
    print(compare(*flags.folders, to=to, experiments=_with_own(flags.also).values()))
    print(f"\ncomparison: {to / 'compare.md'}\nfigures: {to / 'figures'}")


def list_(argv: Sequence[str]) -> None:
    """Lists the experiments: what each needs, what is done, what is stale and why.

    `geomadv list networks [NAME...]` lists the networks instead, a card each.
    """
    if argv[:1] == ["networks"]:
        print(network_cards(argv[1:]))
        return
    own = _own_places(argv)
    table = _with_own(own)
    flags, given = _parsed(_Flags, argv, [], table, "list")
    print(listed(_runner(flags, given, table, own)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _File:
    """Flags of `geomadv show`."""

    file: Annotated[Path, tyro.conf.Positional]
    """A result file."""


def show(argv: Sequence[str]) -> None:
    """Shows a result file: where it comes from, its variables, the command that makes it again."""
    print(shown(_cli(_File, argv, "show", show).file))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Paths:
    """Flags of `geomadv verify`."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Files, or folders of results, unfinished work or weights; default: results, and the cache."""


def verify(argv: Sequence[str]) -> int:
    """Checks that files are as they were written, a line each; status 1 if one is damaged."""
    named = _cli(_Paths, argv, "verify", verify).paths
    damaged = 0
    for whole, line in verified(named or [p for p in (Path("results"), cache_dir()) if p.exists()]):
        damaged += not whole
        print(line, flush=True)
    return min(damaged, 1)


# Parsing


def _leading(argv: Sequence[str]) -> list[str]:
    """The words before the first flag: the experiments."""
    first = next((i for i, word in enumerate(argv) if word.startswith("-")), len(argv))
    return [word if ":" in word else word.replace("-", "_") for word in argv[:first]]


def _chosen(
    argv: Sequence[str],
) -> tuple[list[str], list[str], list[str], dict[str, Experiment]]:
    """The words before the flags, what they name, places of the user's own, and all there are."""
    words = _leading(argv)
    own = _own_places(argv, words)
    table = _with_own(own)
    named = [_own(word).name if ":" in word else word for word in words]
    # Each once, and what others start from before them.
    names = [n for n in table if n in named] + [n for n in named if n not in table]
    return words, names, own, table


def _own_places(argv: Sequence[str], words: Sequence[str] = ()) -> list[str]:
    """Where the user's own experiments are, as named among the words, by --also and in the file."""
    own = [word for word in words if ":" in word]
    for i, word in enumerate(argv):
        if word.split("=")[0] == "--also":
            own += [word.removeprefix("--also=")] if "=" in word else _leading(argv[i + 1 :])
    also = _toml(argv).get("also", [])
    own += map(str, also if isinstance(also, list) else [])
    return [*dict.fromkeys(own)]


def _with_own(places: Sequence[str]) -> dict[str, Experiment]:
    """All experiments by name, those of the user's own too."""
    table = tabled([*EXPERIMENTS, *(_own(place) for place in places)])
    taken = [field.name for field in dataclasses.fields(_PaperFlags)]
    for name in table:
        if name in taken:
            raise InputError(f"an experiment cannot be called {name!r}: that is a flag.")
    return table


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
    if wrong := [n for n in table if not isinstance(file.get(n, {}), dict)]:
        raise InputError(f"--settings: {wrong[0]} = ...: expected a table, [{wrong[0]}].")
    shown = _with_inputs([n for n in names if n in table], table)
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
    return flags, quick_settings(table, given) if flags.quick else given


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
        raise InputError(f"--settings {path}: {error}.") from error


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
                f"{closest(name, known)}"
            )
        given[homes[name]][name] = value
    rest = given.pop("")
    return with_given(flags, {**given, **rest}, "--settings: ")
