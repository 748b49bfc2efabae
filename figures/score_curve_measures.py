"""Symmetry, monotonicity and separability of the score curves of every class."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "score_curves"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "score_curve_measures", ga.plotting.score_curve_measures)


if __name__ == "__main__":
    main(draw_figure)
