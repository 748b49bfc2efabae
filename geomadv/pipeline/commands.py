"""The commands of `geomadv`: what each takes, and what it does."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from geomadv import distributed
from geomadv.errors import InputError, closest
from geomadv.files.places import cache_dir
from geomadv.networks import network_cards
from geomadv.pipeline.card import card
from geomadv.pipeline.check import checked
from geomadv.pipeline.choices import chosen_lines, products_lines
from geomadv.pipeline.comparing import compare
from geomadv.pipeline.drawer import Drawer
from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.failures import Failures
from geomadv.pipeline.figures import draw
from geomadv.pipeline.flags import (
    Flags,
    Names,
    PaperFlags,
    RunFlags,
    chosen,
    own_places,
    parse,
    parsed,
    print_line,
    runner_of,
    with_inputs,
    with_own,
)
from geomadv.pipeline.made import made_table
from geomadv.pipeline.plan import planned
from geomadv.pipeline.report import report
from geomadv.pipeline.reproduction import reproduce_by_words
from geomadv.pipeline.runner import Runner
from geomadv.pipeline.show import listed, shown
from geomadv.pipeline.study import Subject, folder_name, loaded_name
from geomadv.pipeline.verdicts import claims, explained, threshold_of
from geomadv.pipeline.verify import verified

# Without these, nothing else makes sense.
_ESSENTIAL = ("train", "boundary")


def run(argv: Sequence[str]) -> None:
    """Runs experiments; what they start from runs first where it is missing."""
    words, names, own, table = chosen(argv)
    if not words and not {"-h", "--help"} & {*argv}:
        raise InputError(
            "name an experiment or several, before any flags: geomadv run EXPERIMENT... --flags. "
            f"There are {', '.join(table)}."
        )
    flags, given = parsed(RunFlags, argv[len(words) :], names, table, "run EXPERIMENT...")
    folder, failures = _run_all(flags, given, names, table, own, essential=tuple(names))
    if distributed.is_main() and not flags.quiet and len(names) > 1:
        print(f"figures: {folder / 'figures'}\none page of all: geomadv report {folder}")
    failures.refuse()


def paper(argv: Sequence[str]) -> None:
    """Runs all experiments in order, draws their figures and answers the papers' claims."""
    own = own_places(argv)
    table = with_own(own)
    flags, given = parsed(PaperFlags, argv, list(table), table, "paper")
    only, skip = ([word.replace("-", "_") for word in words] for words in (flags.only, flags.skip))
    if unknown := [n for n in (*only, *skip) if n not in table]:
        raise InputError(
            f"{', '.join(unknown)}: no experiment.{closest(unknown[0], [*table])} There are "
            f"{', '.join(table)}."
        )
    chosen = only or [n for n, e in table.items() if e.in_paper]
    names = [n for n in table if n in chosen and n not in skip]
    folder, failures = _run_all(flags, given, names, table, own, essential=_ESSENTIAL)
    if distributed.is_main():
        page = failures.made("report", lambda: report(folder, also=[*table.values()]).path)
        if not flags.quiet:
            answers = failures.made("claims", lambda: claims(folder))
            print(f"\n{answers}\nresults: {folder}\nfigures: {folder / 'figures'}")
            print(f"report: {page}")
    failures.refuse()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Demo:
    """Flags of `geomadv demo`."""

    quick: bool = False
    """Small counts of everything: all of it in a minute or two, in a folder of its own."""
    results: Path | None = None
    """Folder of the results; default: results, with --quick: quick."""


def demo(argv: Sequence[str]) -> None:
    """The study of a small digit classifier that comes with geomadv; no data, no downloads."""
    flags = parse(_Demo, argv, "demo", demo)
    folder = flags.results or Path("quick" if flags.quick else "results")
    words = ["--network", "digits-cnn", "--processes", "auto", "--results", str(folder)]
    paper([*words, "--quick"] if flags.quick else words)
    if distributed.is_main():
        print("Open the report in a browser; it needs no network.")


def _run_all(
    flags: Any,
    given: Mapping[str, Any],
    names: Sequence[str],
    table: Mapping[str, Experiment],
    own: Sequence[str],
    essential: Sequence[str],
) -> tuple[Path, Failures]:
    """Runs the experiments; the folder of their results, and which were refused on the way."""
    say: Callable[[str], None] = (lambda _: None) if flags.quiet else print_line
    with Drawer(table, say) as drawer:

        def work() -> tuple[Path, Failures]:
            runner = runner_of(flags, given, table, own, say)
            if flags.verbose:
                runner.say(chosen_lines(runner.study, str(flags.processes)))
            return _run_in_order(runner, names, given, essential, drawer, flags.verbose)

        return distributed.together(flags.several, work)


def _run_in_order(
    runner: Runner,
    names: Sequence[str],
    given: Mapping[str, Any],
    essential: Sequence[str],
    drawer: Drawer,
    explain: bool,
) -> tuple[Path, Failures]:
    """As `_run_all`; one that is not essential does not keep the others from running."""
    failures = Failures(essential, runner.say)
    told: dict[str, str] = {}
    runner.check(*names)
    for name in [n for n in names if n in essential or given.get(n)]:
        runner.plan(name)  # whatever may be refused, before any work
    runner.say(card(runner.study))
    for number, name in enumerate(names, 1):
        runner.say(f"\nanalysis {number} of {len(names)} · {name}")
        try:
            told[name] = _run_one(runner, name, explain)
        except Exception as error:
            failures.take(name, error)
        else:
            drawer.draw(name, runner.study.folder)
        for drawn, failure in drawer.told(wait=number == len(names)):
            failures.take(drawn, failure)
    if table := made_table(runner, told, failures.names):
        runner.say(table)
    return runner.study.folder, failures


def _run_one(runner: Runner, name: str, explain: bool) -> str:
    """Runs an experiment and says what it found; gives the headline."""
    started = time.perf_counter()
    ds = runner.run(name)
    headline = runner.tell(name, ds)
    for line in products_lines(ds) if explain else ():
        runner.say(line)
    runner.say(f"{runner.study.path(name)} ({time.perf_counter() - started:.0f} s)")
    return headline


def check(argv: Sequence[str]) -> None:
    """Shows what a run would work on: network, images, accuracy, settings, effort; nothing runs."""
    words, names, own, table = chosen(argv)
    flags, given = parsed(Flags, argv[len(words) :], names, table, "check [EXPERIMENT...]")
    print(checked(runner_of(flags, given, table, own), names))


def plan(argv: Sequence[str]) -> None:
    """Shows what experiments would cost: passes, time, memory and disk; nothing runs.

    Without names those of a paper. The speed is measured on this machine, for some seconds.
    """
    words, names, own, table = chosen(argv)
    names = names or [n for n, e in table.items() if e.in_paper]
    flags, given = parsed(Flags, argv[len(words) :], names, table, "plan [EXPERIMENT...]")
    print(planned(runner_of(flags, given, table, own), with_inputs(names, table)))


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

    only: Names = ()
    """These figures alone."""
    also: Names = ()
    """Experiments of your own, package.module:experiment."""


def figures(argv: Sequence[str]) -> None:
    """Draws the figures of all results in a folder."""
    flags = parse(_Figures, argv, "figures", figures)
    only = [name.replace("-", "_") for name in flags.only]
    draw(flags.chosen, only, experiments=with_own(flags.also).values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Claims(_Folder):
    """Flags of `geomadv claims`."""

    explain: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Tell a claim's sentence, source, formula, figures and threshold instead."""
    threshold: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=NUMBER...")] = ()
    """Other thresholds than the claims' own."""


def claims_(argv: Sequence[str]) -> None:
    """Answers the papers' claims from the results in a folder: claims.md and claims.json."""
    flags = parse(_Claims, argv, "claims", claims_)
    if flags.explain is not None:
        print(explained(flags.explain))
    else:
        print(claims(flags.chosen, dict(map(threshold_of, flags.threshold))))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Report(_Folder):
    """Flags of `geomadv report`."""

    compare: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OTHER...")] = ()
    """Folders of other networks' results, or their names beside the first, to be shown with it."""
    also: Names = ()
    """Experiments of your own, package.module:experiment."""


def report_(argv: Sequence[str]) -> None:
    """Writes report.html: what was found about a network, its claims, all figures, their origin."""
    flags = parse(_Report, argv, "report", report_)
    beside = [folder_name(loaded_name(name)) for name in flags.compare]
    others = [
        Path(word) if Path(word).is_dir() else flags.chosen.parent / name
        for word, name in zip(flags.compare, beside, strict=True)
    ]
    table = with_own(flags.also)
    print(f"report: {report(flags.chosen, others, [*table.values()]).path}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Compare:
    """Flags of `geomadv compare`."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of one network's results each."""
    to: Path | None = None
    """Folder to write to; default: compare, beside the folders."""
    also: Names = ()
    """Experiments of your own, package.module:experiment."""


def compare_(argv: Sequence[str]) -> None:
    """Shows networks side by side: compare.md and compare.json, and figures with all of them."""
    flags = parse(_Compare, argv, "compare", compare_)
    parents = [str(path.absolute().parent) for path in flags.folders] or [""]
    to = flags.to or Path(os.path.relpath(os.path.commonpath(parents))) / "compare"
    print(compare(*flags.folders, to=to, experiments=with_own(flags.also).values()))
    print(f"\ncomparison: {to / 'compare.md'}\nfigures: {to / 'figures'}")


def list_(argv: Sequence[str]) -> None:
    """Lists the experiments: what each needs, what is done, what is stale and why.

    `geomadv list networks [NAME...]` lists the networks instead, a card each.
    """
    if argv[:1] == ["networks"]:
        print(network_cards(argv[1:]))
        return
    own = own_places(argv)
    table = with_own(own)
    flags, given = parsed(Flags, argv, [], table, "list")
    print(listed(runner_of(flags, given, table, own)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _File:
    """Flags of `geomadv show`."""

    file: Annotated[Path, tyro.conf.Positional]
    """A result file."""


def show(argv: Sequence[str]) -> None:
    """Shows a result file: where it comes from, its variables, the command that makes it again."""
    print(shown(parse(_File, argv, "show", show).file))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reproduce:
    """Flags of `geomadv reproduce`; those given stand for what the file says."""

    file: Annotated[Path, tyro.conf.Positional]
    """A result file."""
    subject: tyro.conf.OmitArgPrefixes[Subject] = Subject()  # noqa: RUF009 (frozen)
    device: str = "auto"
    """Device to compute on."""
    batch_size: int | None = None
    """Images per pass."""
    memory: int | None = None
    """Bytes for what exact Hessian products keep for reuse."""
    also: Names = ()
    """Experiments of your own, package.module:experiment."""
    progress: Literal["auto", "off"] = "auto"
    """off: no progress bars; auto: bars, in a log file a line a minute."""


def reproduce(argv: Sequence[str]) -> int:
    """Runs again what a result file says, elsewhere, and compares; status 1 if it differs."""
    file = parse(_Reproduce, argv, "reproduce", reproduce).file
    position = next(
        i for i, word in enumerate(argv) if not word.startswith("-") and Path(word) == file
    )
    again = reproduce_by_words(file, [*argv[:position], *argv[position + 1 :]], say=print_line)
    print(again)
    return int(not again.same)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Paths:
    """Flags of `geomadv verify`."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Files, or folders of results, unfinished work or weights; default: results, and the cache."""


def verify(argv: Sequence[str]) -> int:
    """Checks that files are as they were written, a line each; status 1 if one is damaged."""
    named = parse(_Paths, argv, "verify", verify).paths
    damaged = 0
    for whole, line in verified(named or [p for p in (Path("results"), cache_dir()) if p.exists()]):
        damaged += not whole
        print(line, flush=True)
    return min(damaged, 1)
