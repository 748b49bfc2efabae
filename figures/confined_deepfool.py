"""Norms of confined DeepFool perturbations and of projected images against the dimension."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "confined_deepfool"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "confined_deepfool", ga.plotting.confined_deepfool)


if __name__ == "__main__":
    main(draw_figure)
