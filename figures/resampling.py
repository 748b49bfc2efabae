"""Accuracy, norms and fooling rates behind a resampling unit, as a table in colours."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "resampling"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "resampling", ga.plotting.resampling)


if __name__ == "__main__":
    main(draw_figure)
