"""An experiment as one value: what may be set, what it reads, computes, tells and draws."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from textwrap import shorten
from typing import TYPE_CHECKING, Any, get_type_hints

import xarray as xr
from matplotlib.figure import Figure

from geomadv.classifier import Classifier
from geomadv.errors import InputError, closest
from geomadv.images.splits import Split
from geomadv.keep import Keep
from geomadv.labels import Schema
from geomadv.pipeline.settings import LARGE_IMAGE, merged
from geomadv.pipeline.work import Case, Work

if TYPE_CHECKING:
    from geomadv.pipeline.study import Study

# Letters of a headline: with a file's name and a duration a row has some 110.
_HEADLINE = 80


@dataclass(frozen=True)
class Sample:
    """Images that an experiment uses.

    Attributes:
        split: "train" or "test"; the two never overlap.
        count: name of the setting that says how many are drawn at random; its value None, or one
            beyond the split, takes all in order. No name: all.
        classes: name of the setting with the classes whose images alone are taken.
        optional: a count of 0 says that none are wanted; `compute` then gets None.
        labels: their true classes are needed; images without are refused before any work.
    """

    split: Split
    count: str | None = None
    classes: str | None = None
    optional: bool = False
    labels: bool = False


@dataclass(frozen=True)
class Drawing:
    """A figure of a result.

    Attributes:
        plot: dataset (and those `beside` it, None where there is none) -> figure, or a page's text.
        caption: what to see in it and how it was made, for readers who know none of the papers.
        beside: further results that the figure shows if they are there.
        variable: drawn only where the result has this variable and a value in it.
    """

    plot: Callable[..., Figure | str]
    caption: str = ""
    beside: tuple[str, ...] = ()
    variable: str | None = None

    @property
    def ending(self) -> str:
        """Of its file: "html" of a page, which its function says to return, "pdf" of a figure."""
        function = getattr(self.plot, "func", self.plot)
        return "html" if get_type_hints(function).get("return") is str else "pdf"


@dataclass(frozen=True)
class Run:
    """What the computation of an experiment may use beside its settings, images and inputs.

    Attributes:
        net: the network.
        seed: of every random choice.
        keep: keeps finished parts on disk.
        pace: `batch_size` and `progress`, keyword arguments of every experiment.
        networks: the network and those beside it, of an experiment on several.
        memory: bytes that may be kept for reuse; None: from the machine.
        say: where a line about the progress goes.
    """

    net: Classifier
    seed: int
    keep: Keep
    pace: Mapping[str, Any]
    networks: tuple[Classifier, ...]
    memory: int | None = None
    say: Callable[[str], None] = print


def _as_given(settings: Any, net: Classifier) -> Any:
    del net
    return settings


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment as a whole. The runner, the command line and the tables read it.

    Attributes:
        name: of its result file and of its command; letters, digits and underscores.
        settings: frozen dataclass with defaults; its fields and their docstrings are the flags.
        compute: (run, settings, **images, **inputs) -> Dataset, a plain function of public calls.
        schema: variables of the result, see `geomadv.labels.Schema`.
        resolve: (settings, net) -> settings with what depends on the network filled in; raises
            `InputError` for settings that cannot be used, before any work.
        images: keyword of `compute` -> which images.
        measured_on: the images among them, or among those of what it starts from, that its numbers
            are measured on, which file and figures name; None: the first.
        inputs: results it starts from; keyword arguments of `compute`. They are run first.
        optional: results it uses if they are there; None where they are not.
        networks: (settings, study) -> the networks beside the first, of experiments on several.
        tell: Dataset -> lines for the terminal and the report.
        headline: which of these lines says most, for a table of all experiments; behind the first
            one where that ends in a colon.
        figures: name of the file -> drawing.
        work: what it needs on one of its networks; None: nobody knows. A plan multiplies it, and
            what its result takes on the disk is checked before work.
        quick: the settings of `--quick`, with counts so small that it takes seconds.
        quick_large: those that differ for images of over 4,096 numbers, where it takes minutes.
        divided: what processes under torchrun divide, in a word: the parts that `compute` asks
            `run.keep` for by `each` or `rows`. None: one process computes all of it.
        version: raised when the same settings give other numbers than before.
        in_paper: whether `geomadv paper` runs it.
    """

    name: str
    settings: type
    compute: Callable[..., xr.Dataset]
    schema: Schema = field(default_factory=dict)
    resolve: Callable[[Any, Classifier], Any] = _as_given
    images: Mapping[str, Sample] = field(default_factory=dict)
    measured_on: str | None = None
    inputs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    networks: Callable[[Any, Study], tuple[Classifier, ...]] | None = None
    tell: Callable[[xr.Dataset], str] = lambda ds: f"{dict(ds.sizes)}"
    headline: int = 0
    figures: Mapping[str, Drawing] = field(default_factory=dict)
    work: Callable[[Case], Work] | None = None
    quick: Mapping[str, Any] = field(default_factory=dict)
    quick_large: Mapping[str, Any] = field(default_factory=dict)
    divided: str | None = None
    version: int = 1
    in_paper: bool = True

    def __post_init__(self) -> None:
        names = [field.name for field in fields(self.settings)]
        if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", self.name) or "seed" in names:
            raise InputError(
                f"experiment {self.name!r} with the settings {', '.join(names)}: expected a name "
                "of letters, digits and underscores, and no setting called seed, since every "
                "experiment has one (`run.seed`): give other names."
            )

    @property
    def summary(self) -> str:
        """First line of the settings' docstring."""
        return (self.settings.__doc__ or self.name).strip().splitlines()[0]

    def quick_settings(self, dimension: int) -> dict[str, Any]:
        """The settings of `--quick` for images of so many numbers."""
        return merged(self.quick, self.quick_large if dimension > LARGE_IMAGE else {})

    def briefly(self, told: str) -> str:
        """The line that says most of what `tell` gave, for a table of experiments."""
        lines = told.splitlines() or [""]
        line = lines[self.headline] if -len(lines) <= self.headline < len(lines) else lines[-1]
        above = lines[0] if lines[0].endswith(":") and line is not lines[0] else ""
        return shorten(f"{above} {line}", _HEADLINE, placeholder=" …")


def tabled(experiments: Iterable[Experiment]) -> dict[str, Experiment]:
    """Experiments by name, in order.

    Raises:
        InputError: two different ones of a name, or one that starts from an unknown one.
    """
    table: dict[str, Experiment] = {}
    for experiment in experiments:
        if not isinstance(experiment, Experiment):
            raise InputError(f"{experiment!r}: expected a geomadv.pipeline.Experiment.")
        if table.setdefault(experiment.name, experiment) is not experiment:
            raise InputError(
                f"two experiments are called {experiment.name!r}: their results would be one file. "
                "Give yours a name of its own."
            )
    for name, experiment in table.items():
        for i in (*experiment.inputs, *experiment.optional):
            if i not in table:
                raise InputError(
                    f"experiment {name!r} starts from {i!r}, which is none."
                    f"{closest(i, [*table])} Experiments of your own are named by `also`."
                )
    return table


def checked(ds: xr.Dataset, experiment: Experiment) -> xr.Dataset:
    """The dataset with the schema's labels where it has none.

    Raises:
        InputError: a variable of other dimensions than the schema says, or one that it lacks.
    """
    if not experiment.schema:
        return ds
    labelled = ds.copy()
    for name, variable in labelled.variables.items():
        dims, long_name, units = experiment.schema.get(str(name), ((), "", ""))
        if not long_name or tuple(dims) != variable.dims:
            raise InputError(
                f"experiment {experiment.name!r} gave the variable {str(name)!r} with dimensions "
                f"{variable.dims}, its schema says {dims if long_name else 'nothing of it'}: "
                "correct the one or the other."
            )
        variable.attrs = {"long_name": long_name, "units": units} | variable.attrs
    return labelled
