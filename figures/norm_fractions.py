"""Shares of perturbations' norms in curved and flat directions, below the accuracy on them."""

from pathlib import Path

import xarray as xr
from drawing import draw, main
from matplotlib.figure import Figure

import geomadv as ga

EXPERIMENT = "norm_fractions"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    above = folder / "subspace_accuracy.h5"
    accuracy = ga.load(above) if above.exists() else None

    def plot(ds: xr.Dataset) -> Figure:
        return ga.plotting.norm_fractions(ds, accuracy)

    draw(folder, EXPERIMENT, "norm_fractions", plot)


if __name__ == "__main__":
    main(draw_figure)
