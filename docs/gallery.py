"""Pictures of the gallery from results: python docs/gallery.py results/NETWORK quick/NETWORK ...

Takes the figures that `geomadv paper` drew, small enough to be kept beside the text, and the
answers to the papers' claims. Of the first folder all figures, of the others those of
`SIDE_BY_SIDE` and those that the first one lacks. A folder below `quick` was made with `--quick`.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

GALLERY = Path(__file__).parent / "gallery"

# Where a standard and a robustly trained network differ.
SIDE_BY_SIDE = (
    "normal_spectrum",
    "random_subspace_fooling",
    "confined_deepfool",
    "universal",
    "norm_comparison",
    "categories",
)
# Pixels of a figure's width: of one that fills a page, and of one that fills a column.
_WIDE, _NARROW = 1000, 620


def picture(source: Path, target: Path) -> None:
    """A figure in the size of a page of the documentation."""
    with Image.open(source) as opened:
        image = opened.convert("RGB")
    width = min(image.width, _WIDE if image.width > 1500 else _NARROW)
    small = image.resize(
        (width, round(image.height * width / image.width)), Image.Resampling.LANCZOS
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    small.save(target, "webp", quality=60, method=6)


def answers(folder: Path) -> dict[str, str]:
    """What a network answers to each claim that it has a result for, and on what that rests."""
    told = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    there = [c for c in told["claims"] if (folder / f"{c['experiment']}.h5").exists()]
    return {claim["name"]: _sentence(claim) for claim in there}


def _sentence(claim: dict[str, Any]) -> str:
    if claim["answer"] == "not measured":
        return f"not measured: {claim['note']}"
    word = "difference" if claim["contrast"] == "minus" else "ratio"
    low, high = claim["low"], claim["high"]
    interval = "" if None in (low, high) else f" [{low:.3g}, {high:.3g}]"
    return (
        f"**{claim['answer']}**: {claim['effect']:.3g} against {claim['null']:.3g}, {word} "
        f"{claim['value']:.3g}{interval}, on {claim['count']}"
    )


def main(folders: Sequence[str]) -> None:
    """Makes the gallery anew."""
    shutil.rmtree(GALLERY, ignore_errors=True)
    networks = {}
    for number, folder in enumerate(map(Path, folders)):
        figures = sorted((folder / "figures").glob("*.png"))
        for file in figures:
            if number == 0 or file.stem in SIDE_BY_SIDE or not _has(folders[0], file.name):
                picture(file, GALLERY / folder.name / f"{file.stem}.webp")
        quick = folder.parent.name == "quick"
        networks[folder.name] = {"quick": quick, "answers": answers(folder)}
    (GALLERY / "answers.json").write_text(json.dumps(networks, indent=1) + "\n", encoding="utf-8")


def _has(folder: str, name: str) -> bool:
    return (Path(folder) / "figures" / name).exists()


if __name__ == "__main__":
    main(sys.argv[1:])
