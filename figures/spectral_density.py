"""Density of the eigenvalues of the mean Hessians, where the full spectrum is out of reach."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "curvature"
VARIABLE = "density"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "spectral_density", ga.plotting.spectral_density)


if __name__ == "__main__":
    main(draw_figure)
