"""The tilting plane of one toy problem in two and in many dimensions."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "tilting_toy"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "tilting_toy", ga.plotting.tilting_toy)


if __name__ == "__main__":
    main(draw_figure)
