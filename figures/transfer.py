"""Fooling rates of one network's perturbation on another."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "transfer"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "transfer", ga.plotting.transfer)


if __name__ == "__main__":
    main(draw_figure)
