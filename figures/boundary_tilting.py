"""Figures of the boundary tilting perspective, networks side by side."""

from pathlib import Path
from typing import Annotated

import tyro

import geomadv as ga
from geomadv.plotting import beside

# Pages of one network's data, which are drawn in its own folder.
PAGES = ("tilting_images", "tilting_space", "tilting_slider")


def main(
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional],
    to: Path = Path("results/side_by_side"),
) -> None:
    """Draws toy problem, tilting plane, sweeps and the tilt of the networks' boundaries.

    Args:
        folders: of the networks' results, such as results/digits-cnn. A missing result leaves an
            empty panel with the command that makes it.
        to: folder of the figures.
    """
    found = ga.pipeline.results_of(*folders)
    planes = found("tilting_plane")
    drawn = {
        "planes": beside.tilting_planes(planes),
        "sweep": beside.beside(planes, "tilting_sweep"),
        "normals": beside.normal_tilts(found("normal_tilt")),
    }
    toys = [toy for toy in found("tilting_toy").values() if toy is not None]
    if toys:
        drawn["toy"] = beside.tilting_toy(toys[0])
    for name, figure in drawn.items():
        print(ga.plotting.save_figure(figure, to, f"tilting_{name}"))
    for folder in folders:
        if (folder / "tilting_plane.h5").exists():
            ga.pipeline.draw(folder, only=PAGES)


if __name__ == "__main__":
    tyro.cli(main)
