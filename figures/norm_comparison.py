"""Universal perturbations beside other vectors of the same norms."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "norm_comparison"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "norm_comparison", ga.plotting.norm_comparison)


if __name__ == "__main__":
    main(draw_figure)
