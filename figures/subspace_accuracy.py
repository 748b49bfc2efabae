"""Accuracy of images projected on curved and flat directions."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "subspace_accuracy"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "subspace_accuracy", ga.plotting.subspace_accuracy)


if __name__ == "__main__":
    main(draw_figure)
