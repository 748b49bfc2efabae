"""All papers on several networks: each network's study in turn, then their figures side by side."""

from pathlib import Path

import boundary_tilting
import last_layer
import tyro
import universal_perturbations
import with_friends_like_these

PAPERS = (with_friends_like_these, universal_perturbations, boundary_tilting, last_layer)


def main(networks: tuple[str, ...] = ("digits-cnn",), results: Path = Path("results")) -> None:
    """Runs every recipe on every network; `geomadv paper` does the same for one, with figures."""
    for network in networks:
        for paper in PAPERS:
            print(f"\n{network}: {(paper.__doc__ or '').splitlines()[0]}")
            paper.main(network=network, results=results)


if __name__ == "__main__":
    tyro.cli(main)
