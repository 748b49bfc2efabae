"""What all figure scripts share: read a result file, draw, save as PDF and PNG."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
import xarray as xr
from matplotlib.figure import Figure

import geomadv as ga


@dataclass(kw_only=True)
class Flags:
    """Flags of every figure script."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of one network's results, for example results/digits-cnn."""


def draw(
    folder: Path, experiment: str, name: str, plot: Callable[[xr.Dataset], Figure | str]
) -> None:
    """Draws one figure from one result file to <folder>/figures/<name>.pdf and .png, or .html."""
    figure = plot(ga.load(folder / f"{experiment}.h5"))
    target = ga.results.check_writable(folder / "figures")
    print(ga.plotting.save_figure(figure, target, name))


def main(draw_figure: Callable[[Path], None]) -> None:
    """Parses the command line and draws; what the user can mend ends with status 2."""
    try:
        doc = sys.modules[draw_figure.__module__].__doc__
        draw_figure(tyro.cli(Flags, description=doc).folder)
    except (ga.InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
