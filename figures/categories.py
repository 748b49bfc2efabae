"""The four categories of vulnerability, network beside network."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "categories"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "categories", ga.plotting.categories)


if __name__ == "__main__":
    main(draw_figure)
