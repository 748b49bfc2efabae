"""One image's confined perturbations and projections at some dimensions."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "confined_deepfool"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "confined_examples", ga.plotting.confined_examples)


if __name__ == "__main__":
    main(draw_figure)
