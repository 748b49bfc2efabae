"""One page of a network's results: what was found, every figure, and where each number is from.

The page is made from the files of a folder alone and is whole in itself: it loads nothing.
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from geomadv.claims import Verdict
from geomadv.errors import InputError
from geomadv.files.writing import write_whole
from geomadv.pipeline.comparing import side_by_side
from geomadv.pipeline.comparison import Comparison
from geomadv.pipeline.experiment import Experiment, tabled
from geomadv.pipeline.figures import draw_experiment, drawn_files
from geomadv.pipeline.findings import QUESTIONS, finding, findings
from geomadv.pipeline.finished import Finished, finished
from geomadv.pipeline.glossary import GLOSSARY
from geomadv.pipeline.origin import (
    card,
    command_again,
    commands_of,
    is_quick,
    origin,
    remedy,
    report_again,
    settings_table,
)
from geomadv.pipeline.pictures import Picture, encoded, thumbnail
from geomadv.pipeline.references import bibtex
from geomadv.pipeline.table import EXPERIMENTS
from geomadv.pipeline.verdicts import KINDS, asked, counted, number
from geomadv.results.files import holding

_NAME = "report.html"
_WORDS = {"svd": "SVD", "deepfool": "DeepFool"}
# Lines of a headline that stand above the figures; longer ones are folded.
_BRIEF = 4


@dataclass(frozen=True)
class Report:
    """A page that was written; notebooks show it.

    Attributes:
        path: of the file.
    """

    path: Path

    def _repr_html_(self) -> str:
        page = escape(self.path.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 50rem; border: 0"></iframe>'


def report(
    folder: str | os.PathLike[str],
    compare: Sequence[str | os.PathLike[str]] = (),
    also: Sequence[Experiment] = (),
) -> Report:
    """Writes `report.html` into a folder of results: what `geomadv report` does.

    Figures that are missing or older than their results are drawn before. The same results give the
    same page: it holds no time of its own, and what it shows of others lies inside it.

    Args:
        folder: of one network's results, such as results/digits-cnn.
        compare: folders of other networks, shown beside it.
        also: experiments of your own whose results are shown, too.

    Returns:
        The page, which a notebook shows.

    Raises:
        InputError: a folder holds no results, damaged ones, or those of several networks; or the
            disk refuses.
    """
    table = tabled([*EXPERIMENTS, *also])
    networks = finished([folder, *compare], table.values())
    with holding(Path(folder), "a report"):
        page = _page(networks, table)
    path = Path(folder) / _NAME
    write_whole(path, page)
    return Report(path)


def _page(networks: Sequence[Finished], table: Mapping[str, Experiment]) -> str:
    sections = [e for e in table.values() if any(e.name in one.results for one in networks)]
    drawn = {(e.name, one.folder): _drawn(e, one) for e in sections for one in networks}
    pictures = encoded(path for files, _ in drawn.values() for path in files.values())
    together = side_by_side(networks, tuple(table.values()))
    return _template().render(
        networks=[{"name": one.name, "card": card(one)} for one in networks],
        questions=_questions(networks, together, drawn),
        counted=[counted(column) for column in _columns(together)],
        claims=_claims(together),
        numbers=together.numbers if len(networks) > 1 else (),
        sections=[_section(e, networks, drawn, pictures) for e in sections],
        missing=[note for one in networks for note in _missing(one, table)],
        glossary=[(_anchor(word), word, text) for word, text in GLOSSARY.items()],
        bibtex=bibtex(e.name for e in sections),
        paper=command_again(networks[0]),
        quick=is_quick(networks[0]),
        again=report_again(networks),
    )


@functools.cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["linked"] = linked
    environment.filters["worded"] = worded
    file = resources.files("geomadv.pipeline").joinpath(_NAME)
    return environment.from_string(file.read_text(encoding="utf-8"))


def worded(name: str) -> str:
    """The name of an experiment as words of a text."""
    return " ".join(_WORDS.get(part, part) for part in name.split("_"))


def _columns(together: Comparison) -> list[list[Verdict]]:
    """The verdicts of each network."""
    return [[row.verdicts[i] for row in together.claims] for i in range(len(together.networks))]


_Drawn = tuple[Mapping[str, Path], str]


def _drawn(experiment: Experiment, one: Finished) -> _Drawn:
    """Files of a result's figures, and why others could not be drawn."""
    ds = one.results.get(experiment.name)
    if ds is None:
        return {}, ""
    refusal = ""
    try:
        draw_experiment(experiment, one.folder, lambda _: None, only_newer=True, ds=ds)
    except InputError as error:
        refusal = str(error)
    return drawn_files(experiment, one.folder, ds), refusal


def _questions(
    networks: Sequence[Finished],
    together: Comparison,
    drawn: Mapping[tuple[str, Path], _Drawn],
) -> list[dict[str, Any]]:
    """The five answers of the first network, the same claims' of the others, and a figure each."""
    columns = [{v.claim.name: v for v in column} for column in _columns(together)]
    rows = []
    differing = {row.claim.name: ", ".join(row.differing) for row in together.claims}
    for question, first in zip(QUESTIONS, findings(columns[0]), strict=True):
        answers = [first, *(finding(question, first.told, column) for column in columns[1:])]
        files, _ = drawn.get((first.verdict.claim.experiment, networks[0].folder), ({}, ""))
        shown = files.get(first.told.figure)
        rows.append(
            {
                "question": first.question,
                "figure": first.told.figure,
                "differing": differing[first.told.claim],
                "thumbnail": thumbnail(shown) if shown else None,
                "answers": [
                    {
                        "network": one.name,
                        "sentence": answer.sentence,
                        "meaning": answer.meaning,
                        "command": _needed(one, answer.verdict),
                        **_cell(answer.verdict),
                    }
                    for one, answer in zip(networks, answers, strict=True)
                ],
            }
        )
    return rows


def _needed(one: Finished, verdict: Verdict) -> str | None:
    """The command without whose result a claim cannot be answered; None where it is there."""
    experiment = verdict.claim.experiment
    return None if experiment in one.results else command_again(one, experiment)


def _cell(v: Verdict) -> dict[str, str]:
    """A verdict in the page's words."""
    return {
        "answer": v.answer,
        "kind": v.answer.replace(" ", "-"),
        "contrast": "" if v.answer == "not measured" else _contrast(v),
        "asked": asked(v).replace("-", "−"),
        "effect": number(v.effect),
        "null": number(v.null),
        "count": v.count,
        "note": v.note,
    }


def _contrast(v: Verdict) -> str:
    """Ratio or difference with its interval, which has no end where only a bound is known."""
    kind = KINDS[v.claim.contrast]
    if v.low == v.high:
        words = f"{kind} {v.value:.3g}"
    elif math.isinf(v.low) and math.isinf(v.high):
        words = f"{kind} {v.value:.3g} (interval without ends)"
    elif math.isinf(v.low):
        words = f"{kind} {v.value:.3g} (up to {v.high:.3g})"
    elif math.isinf(v.high):
        words = f"{kind} {v.value:.3g} (from {v.low:.3g} on)"
    else:
        words = f"{kind} {v.value:.3g} ({v.low:.3g} to {v.high:.3g})"
    return words.replace("-", "−")


def _claims(together: Comparison) -> list[dict[str, Any]]:
    """Both tables: findings, and checks of the mathematics."""
    return [
        {
            "title": title,
            "rows": [
                {
                    "claim": row.claim,
                    "differing": ", ".join(row.differing),
                    "cells": [_cell(v) for v in row.verdicts],
                }
                for row in together.claims
                if row.claim.of_mathematics == chosen
            ],
        }
        for title, chosen in (("Claims", False), ("Checks of the mathematics", True))
    ]


def _section(
    experiment: Experiment,
    networks: Sequence[Finished],
    drawn: Mapping[tuple[str, Path], _Drawn],
    pictures: Mapping[Path, Picture],
) -> dict[str, Any]:
    """All of an experiment: headline, figures, and where its results come from."""
    holders = [one for one in networks if experiment.name in one.results]
    figures = []
    for name, drawing in experiment.figures.items():
        shown = [
            {
                "network": one.name,
                "files": _beside(files[name], networks[0].folder),
                **vars(pictures[files[name]]),
            }
            for one in holders
            if name in (files := drawn[experiment.name, one.folder][0])
        ]
        if shown:
            figures.append({"name": name, "caption": drawing.caption, "pictures": shown})
    headlines = {
        one.name: experiment.tell(one.results[experiment.name]).splitlines() for one in holders
    }
    return {
        "name": experiment.name,
        "brief": max(map(len, headlines.values())) <= _BRIEF,
        "summary": experiment.summary,
        "figures": figures,
        "settings": settings_table(experiment, holders),
        "results": [
            {
                "network": one.name,
                "headline": headlines[one.name],
                "refusal": drawn[experiment.name, one.folder][1],
                "note": one.notes.get(experiment.name, ""),
                "href": _relative(one.folder / f"{experiment.name}.h5", networks[0].folder),
                "command": commands_of(one, experiment.name),
                "origin": origin(one, experiment.name),
            }
            for one in holders
        ],
    }


def _beside(figure: Path, folder: Path) -> list[tuple[str, str]]:
    """Kind and address of the files in which a figure is kept."""
    files = (figure.with_suffix(f".{kind}") for kind in ("pdf", "png", "csv", "html"))
    return [(path.suffix[1:].upper(), _relative(path, folder)) for path in files if path.exists()]


def _relative(path: Path, folder: Path) -> str:
    """The address of a file as seen from the page."""
    return quote(Path(os.path.relpath(path, folder)).as_posix())


def _missing(one: Finished, table: Mapping[str, Experiment]) -> list[dict[str, str]]:
    """What a whole study would have and this one has not, or has no longer as it would be."""
    return [
        {
            "network": one.name,
            "name": name,
            "note": note,
            "command": remedy(one, name),
        }
        for name, note in one.notes.items()
        if table[name].in_paper or name in one.results
    ]


# Words of the glossary in running text


def _anchor(word: str) -> str:
    return "term-" + re.sub(r"\W+", "-", word.lower())


def _terms(words: Iterable[str]) -> dict[str, str]:
    """Each way to write a word of the glossary in text -> where it is explained."""
    return {part.lower(): _anchor(word) for word in words for part in word.split(", ")}


_TERMS = _terms(GLOSSARY)
_PATTERN = re.compile(
    rf"\b({'|'.join(map(re.escape, sorted(_TERMS, key=len, reverse=True)))})(s?)\b", re.IGNORECASE
)


def linked(text: str) -> Markup:
    """A text as HTML, in which each word of the glossary links to it once."""
    seen: set[str] = set()

    def link(match: re.Match[str]) -> str:
        anchor = _TERMS[match[1].lower()]
        if anchor in seen:
            return match[0]
        seen.add(anchor)
        return f'<a class="term" href="#{anchor}">{match[0]}</a>'

    return Markup(_PATTERN.sub(link, escape(text)))
