"""The tilting plane as one HTML file in which one moves the regularisation."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "tilting_plane"


def draw_figure(folder: Path) -> None:
    """Writes it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "tilting_slider", ga.plotting.tilting_slider)


if __name__ == "__main__":
    main(draw_figure)
