"""The claims of the papers as the results in a folder answer them: a table, and one explained."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from geomadv.claims import CLAIMS, Answer, Claim, Verdict, judge
from geomadv.errors import InputError, LackingError, closest
from geomadv.files.writing import write_whole
from geomadv.pipeline.finished import Finished, finished
from geomadv.pipeline.table import EXPERIMENTS

_WORDS: tuple[Answer, ...] = ("holds", "does not hold", "undecided", "not measured")
_COLUMNS = ("claim", "source", "quantity", "effect", "null", "difference or ratio", "on", "answer")
_SIGNS = {">=": "≥", "<=": "≤"}
# Contrast of effect and null -> what it is called.
KINDS = {"over": "ratio", "minus": "difference"}
_TOLD = (
    "Effect: the quantity for what the claim is about; null: the same for what it is compared "
    "with; then their difference or ratio with its 95 % interval, and the threshold. A claim "
    "*holds* or *does not hold* where the whole interval is on one side of the threshold, else it "
    "is *undecided*. Where the null leaves no room for it (images do not leave a class 25 "
    "percentage points more often than 90 %) it is *not measured*. `geomadv claims --explain NAME` "
    "tells more."
)


def claims(folder: Path, thresholds: Mapping[str, float] | None = None) -> str:
    """Reads all results that exist, writes claims.md and claims.json and returns lines to print.

    Raises:
        InputError: results of different networks or data sets in one folder, or none; a threshold
            for no claim. Verdicts from stale results say so.
    """
    if not any((folder / f"{claim.experiment}.h5").exists() for claim in CLAIMS):
        raise LackingError(
            f"{folder} holds no results that a claim is about: run `geomadv paper` first."
        )
    one = finished([folder], nameless=True)[0]
    verdicts = verdicts_of(one, thresholds)
    network = one.name
    content = {"network": network, "claims": [record(v) for v in verdicts]}
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_whole(folder / "claims.json", text)
    write_whole(folder / "claims.md", _page(network, verdicts))
    return "\n".join([*map(_line, verdicts), counted(verdicts), f"claims: {folder / 'claims.md'}"])


def verdicts_of(one: Finished, thresholds: Mapping[str, float] | None = None) -> list[Verdict]:
    """A network's verdicts; those of a stale result say so."""
    told = {name: note for name, note in one.notes.items() if name in one.results}
    return [
        replace(v, note="; ".join(filter(None, [told.get(v.claim.experiment, ""), v.note])))
        for v in judge(one.results, CLAIMS, thresholds)
    ]


def is_stale(v: Verdict) -> bool:
    """Whether the result behind a verdict of `verdicts_of` is stale."""
    return v.note.startswith("stale")


def explained(name: str) -> str:
    """What a claim says and how it is answered, in lines to print.

    Raises:
        InputError: no claim of that name.
    """
    named = {claim.name: claim for claim in CLAIMS}
    if name not in named:
        raise InputError(
            f"--explain {name}: no claim.{closest(name, [*named])} There are {', '.join(named)}."
        )
    claim = named[name]
    figures = next((e.figures for e in EXPERIMENTS if e.name == claim.experiment), {})
    drawn = ", ".join(f"figures/{figure}.{made.ending}" for figure, made in figures.items())
    lines = [
        f"{claim.name}: {claim.sentence}",
        f"source: {claim.paper}",
        f"effect: {claim.quantity}; null: the same of {claim.null}",
        f"formula: {claim.formula}",
        f"holds if: {claim.inequality}, on all of the 95 % interval",
        f"result: {claim.experiment}.h5{f'; figures: {drawn}' if drawn else ''}",
        f"another threshold: geomadv claims --threshold {claim.name}={claim.threshold:.3g}",
    ]
    if claim.of_mathematics:
        lines.append("a check of the mathematics: linear algebra promises it for every network")
    return "\n".join(lines)


def _line(v: Verdict) -> str:
    return f"{v.answer:14}{contrast(v):>45}  {v.claim.sentence}{' · STALE' * is_stale(v)}"


def counted(verdicts: Sequence[Verdict]) -> str:
    """How many claims have each answer; checks of the mathematics stand apart."""
    checks = [v.answer for v in verdicts if v.claim.of_mathematics and v.answer != _WORDS[-1]]
    answers = [v.answer for v in verdicts if not v.claim.of_mathematics]
    plural = {"holds": "hold", "does not hold": "do not hold"}
    numbers = [(answers.count(word), word) for word in _WORDS]
    counts = ", ".join(f"{n} {word if n == 1 else plural.get(word, word)}" for n, word in numbers)
    checked = f"{checks.count('holds')} of {len(checks)} hold" if checks else _WORDS[-1]
    return f"{counts}; checks of the mathematics: {checked}"


def contrast(v: Verdict) -> str:
    """Contrast, interval and threshold; "" where nothing was measured."""
    if v.answer == "not measured":
        return ""
    return f"{KINDS[v.claim.contrast]} {v.value:.3g}{interval(v)} {asked(v)}"


def asked(v: Verdict) -> str:
    """What the claim asks of the contrast."""
    return f"{_SIGNS[v.claim.relation]} {v.claim.threshold:.3g}"


def interval(v: Verdict, digits: int = 3) -> str:
    """The interval behind a contrast, "…" where it has no end; "" for an exact number."""
    ends = (f"{end:.{digits}g}" if math.isfinite(end) else "…" for end in (v.low, v.high))
    exact = v.claim.of_mathematics and v.low == v.high
    return "" if exact else f" [{', '.join(ends)}]"


def _page(network: str, verdicts: list[Verdict]) -> str:
    """Both tables in Markdown."""
    parts = [f"# Claims, answered by {network}", _TOLD, f"In all {counted(verdicts)}."]
    for heading, chosen in (("", False), ("## Checks of the mathematics", True)):
        rows = [_cells(v) for v in verdicts if v.claim.of_mathematics == chosen]
        table = [_COLUMNS, ["---"] * len(_COLUMNS), *rows]
        parts += [heading, "\n".join(f"| {' | '.join(row)} |" for row in table)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cells(v: Verdict) -> list[str]:
    c, note = v.claim, f" ({v.note})" if v.note else ""
    numbers = [number(v.effect), f"{number(v.null)} ({c.null})"]
    told = (f"{c.sentence} (`{c.name}`)", c.paper, c.quantity)
    cells = (*told, *numbers, contrast(v), v.count)
    return [escaped(cell) for cell in (*cells, f"{v.answer}{note}")]


def number(value: float) -> str:
    """A number in a table; a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.3g}"


def escaped(cell: str) -> str:
    """A cell that is one cell: without bars, line breaks and tags."""
    signs = {"|": "&#124;", "<": "&lt;", "\\": "&#92;"}
    return "".join(signs.get(letter, letter) for letter in " ".join(cell.split()))


def record(v: Verdict) -> dict[str, Any]:
    """A verdict in JSON terms; null where there is no finite number."""
    c = v.claim
    numbers = {n: getattr(v, n) for n in ("effect", "null", "value", "low", "high")}
    finite = {n: value if math.isfinite(value) else None for n, value in numbers.items()}
    words = ("name", "paper", "sentence", "experiment", "quantity", "contrast", "relation")
    return {
        **{word: getattr(c, word) for word in words},
        "null_of": c.null,
        "threshold": c.threshold,
        "of_mathematics": c.of_mathematics,
        "answer": v.answer,
        **finite,
        "count": v.count,
        "note": v.note,
    }


def threshold_of(word: str) -> tuple[str, float]:
    """NAME=NUMBER as a pair.

    Raises:
        InputError: it is no such word.
    """
    name, _, number = word.partition("=")
    try:
        return name, float(number)
    except ValueError as error:
        raise InputError(
            f"--threshold {word}: expected NAME=NUMBER, such as {_first(CLAIMS)}."
        ) from error


def _first(claims: Iterable[Claim]) -> str:
    claim = next(iter(claims))
    return f"{claim.name}={claim.threshold:g}"
