"""Singular values of the last layer with its null space, and what the null space hides."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "softmax_directions"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "softmax_null_space", ga.plotting.softmax_null_space)


if __name__ == "__main__":
    main(draw_figure)
