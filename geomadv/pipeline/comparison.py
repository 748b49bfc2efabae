"""A comparison of networks as a value: rows, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geomadv.claims import Claim, Verdict
from geomadv.pipeline.verdicts import (
    KINDS,
    asked,
    escaped,
    interval,
    is_stale,
    number,
    record,
)

_SIGNS = {"holds": "+", "does not hold": "-", "undecided": "?", "not measured": "."}
_TOLD = (
    "An answer rests on the 95 % interval of difference or ratio, in brackets; effect, null and "
    "what they rest on follow for each claim. ≠: the networks' settings differ, so that the "
    "numbers are not to be compared; these settings are at the end. What the experiments tell has "
    "no intervals."
)


@dataclass(frozen=True)
class ClaimRow:
    """A claim's answers.

    Attributes:
        claim: the claim.
        verdicts: one of each network, in order.
        differing: settings in which the networks' results differ; their numbers are then not to be
            compared.
    """

    claim: Claim
    verdicts: tuple[Verdict, ...]
    differing: tuple[str, ...]


@dataclass(frozen=True)
class NumberRow:
    """Numbers that an experiment tells.

    Attributes:
        experiment: its name.
        words: what the numbers are; "…" in place of each that differs between the networks.
        cells: the differing numbers of each network, in order; "–" where it tells none.
        differing: as of `ClaimRow`.
    """

    experiment: str
    words: str
    cells: tuple[str, ...]
    differing: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Networks side by side; `str` is the table for a terminal.

    Attributes:
        networks: their names, the columns.
        facts: name -> of each network: data set, dimension, test accuracy, weights.
        claims: rows of answers.
        numbers: rows of what the experiments tell.
        settings: experiment -> setting -> its value for each network, where they differ.
        notes: what is missing or stale.
    """

    networks: tuple[str, ...]
    facts: Mapping[str, tuple[str, ...]]
    claims: tuple[ClaimRow, ...]
    numbers: tuple[NumberRow, ...]
    settings: Mapping[str, Mapping[str, tuple[str, ...]]]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        rows = [("", *self.networks), *((name, *cells) for name, cells in self.facts.items())]
        blocks = [_aligned(rows), _aligned([_brief(row) for row in self.claims])]
        blocks += ["+ holds, - does not hold, ? undecided, . not measured, ≠ other settings"]
        blocks += ["\n".join(_leading(self.numbers))]
        told = [f"≠ {name}: {_settings(values)}" for name, values in self.settings.items()]
        return "\n\n".join(block for block in (*blocks, "\n".join([*told, *self.notes])) if block)

    def markdown(self) -> str:
        """The page of `compare.md`."""
        heads = ("", *self.networks)
        parts = [f"# {' beside '.join(self.networks)}", _TOLD]
        parts += [_table(heads, [(name, *cells) for name, cells in self.facts.items()])]
        for title, chosen in (("Claims", False), ("Checks of the mathematics", True)):
            rows = [row for row in self.claims if row.claim.of_mathematics == chosen]
            answers = _table(("claim", *self.networks), map(_answers, rows))
            parts += [f"## {title}", answers, *(self._in_full(row) for row in rows)]
        told = [(f"{_marked(r.experiment, r)}: {r.words}", *r.cells) for r in self.numbers]
        parts += ["## What the experiments tell"]
        parts += [_table(("… stands for numbers that differ", *self.networks), told)]
        others = [
            (f"{name}: {setting}", *values)
            for name, differing in self.settings.items()
            for setting, values in differing.items()
        ]
        if others:
            parts += ["## Settings that differ", _table(("setting", *self.networks), others)]
        if self.notes:
            parts += ["## Missing or stale", "\n".join(f"- {escaped(note)}" for note in self.notes)]
        return "\n\n".join(parts) + "\n"

    def _in_full(self, row: ClaimRow) -> str:
        """A claim of the page: what it asks for, and each network's numbers."""
        c = row.claim
        kind = KINDS[c.contrast]
        heads = ("network", "answer", kind, "effect", "null", "on")
        cells = (_numbers(n, v) for n, v in zip(self.networks, row.verdicts, strict=True))
        about = f"`{c.name}`, {c.paper}: {c.quantity} against {c.null}"
        about += f", {kind} {asked(row.verdicts[0])}."
        return (
            f"### {escaped(_marked(c.sentence, row))}\n\n{escaped(about)}\n\n{_table(heads, cells)}"
        )

    def record(self) -> dict[str, Any]:
        """The content of `compare.json`, in JSON terms."""
        return {
            "networks": [*self.networks],
            "facts": {name: [*cells] for name, cells in self.facts.items()},
            "claims": [
                {
                    "name": row.claim.name,
                    "differing_settings": [*row.differing],
                    "verdicts": [record(v) for v in row.verdicts],
                }
                for row in self.claims
            ],
            "numbers": [
                {
                    "experiment": row.experiment,
                    "words": row.words,
                    "cells": [*row.cells],
                    "differing_settings": [*row.differing],
                }
                for row in self.numbers
            ],
            "settings": {
                name: {setting: [*values] for setting, values in differing.items()}
                for name, differing in self.settings.items()
            },
            "notes": [*self.notes],
        }

    def _repr_markdown_(self) -> str:
        return self.markdown()


def _marked(words: str, row: ClaimRow | NumberRow) -> str:
    return f"≠ {words}" if row.differing else words


def _brief(row: ClaimRow) -> tuple[str, ...]:
    """A claim in the terminal."""
    return _marked(row.claim.name, row), *(_brief_answer(v, _SIGNS[v.answer]) for v in row.verdicts)


def _answers(row: ClaimRow) -> tuple[str, ...]:
    """A claim in the page's first table."""
    cells = (_brief_answer(v, f"**{v.answer}**") for v in row.verdicts)
    return _marked(f"{row.claim.sentence} (`{row.claim.name}`)", row), *cells


def _brief_answer(v: Verdict, answer: str) -> str:
    """An answer with the contrast that it rests on."""
    numbers = "" if v.answer == "not measured" else f" {v.value:.2g}{interval(v, 2)}"
    stale = " stale" if is_stale(v) else ""
    return f"{answer}{numbers}{stale}"


def _numbers(network: str, v: Verdict) -> tuple[str, ...]:
    """A network's row below a claim."""
    answer = f"**{v.answer}**{f' ({v.note})' if v.note else ''}"
    told = "" if v.answer == "not measured" else f"{v.value:.3g}{interval(v)}"
    return network, answer, told, number(v.effect), number(v.null), v.count


def _leading(rows: Iterable[NumberRow]) -> Iterable[str]:
    """Numbers in the terminal: of each experiment the first that all networks have and tell."""
    last = ""
    for row in rows:
        if row.experiment != last and not {"–", "the same"} & {*row.cells}:
            last = row.experiment
            yield _marked(f"{row.experiment}: {row.words}", row)
            yield f"    {'  |  '.join(row.cells)}"


def _settings(values: Mapping[str, tuple[str, ...]]) -> str:
    return "; ".join(f"{key} {' | '.join(cells)}" for key, cells in values.items())


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns below each other."""
    width = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = ([f"{cell:{w}}" for cell, w in zip(row, width, strict=True)] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in cells)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(escaped, cells))} |" for cells in lines)
