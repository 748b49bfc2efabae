"""Score curves of single images along a positive and a negative direction."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "score_curves"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "score_curves", ga.plotting.score_curves)


if __name__ == "__main__":
    main(draw_figure)
