"""The two extreme boundaries of a linear classifier in three dimensions."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "tilting_plane"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "tilting_space", ga.plotting.tilting_space)


if __name__ == "__main__":
    main(draw_figure)
