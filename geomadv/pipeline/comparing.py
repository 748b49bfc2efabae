"""Several networks side by side: their claims, the numbers of their results, what differs."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from geomadv.claims import CLAIMS
from geomadv.errors import InputError
from geomadv.files.writing import refusals, write_whole
from geomadv.pipeline.comparison import ClaimRow, Comparison, NumberRow
from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.finished import Finished, finished
from geomadv.pipeline.origin import remedy
from geomadv.pipeline.settings import flat
from geomadv.pipeline.table import EXPERIMENTS
from geomadv.pipeline.verdicts import verdicts_of
from geomadv.plotting.figure import save_figure
from geomadv.plotting.overlay import overlaid
from geomadv.plotting.overlay_panels import OVERLAYS
from geomadv.results.files import holding

# A number in a line that an experiment tells, with its sign and exponent.
_NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")


def compare(
    *folders: str | os.PathLike[str],
    to: str | os.PathLike[str] | None = None,
    experiments: Iterable[Experiment] = EXPERIMENTS,
) -> Comparison:
    """The results of several networks side by side, from their files.

    Args:
        *folders: of one network's results each, such as results/digits-cnn.
        to: folder to write `compare.md`, `compare.json` and the figures with all networks in the
            same axes to; None: nothing is written.
        experiments: all that are known.

    Returns:
        The table. Nothing is skipped silently: what is missing or stale stands in `notes`.

    Raises:
        InputError: fewer than two folders, or what `geomadv.pipeline.finished.finished` refuses.
    """
    if len(folders) < 2:
        raise InputError(
            f"folders: found {len(folders)}, expected those of two networks or more, such as "
            "results/digits-cnn results/digits-relu."
        )
    table = tuple(experiments)
    found = finished(folders, table)
    with holding(found[0].folder.parent, "a comparison"):
        comparison = side_by_side(found, table)
    if to is not None:
        with refusals(Path(to)):
            Path(to).mkdir(parents=True, exist_ok=True)
        write_whole(Path(to) / "compare.md", comparison.markdown())
        text = json.dumps(comparison.record(), indent=1, allow_nan=False) + "\n"
        write_whole(Path(to) / "compare.json", text)
        _draw(found, Path(to) / "figures")
    return comparison


def _draw(found: Sequence[Finished], folder: Path) -> None:
    """The figures of results that two networks or more have."""
    for name in OVERLAYS:
        drawn = {one.name: one.results.get(name) for one in found}
        if sum(ds is not None for ds in drawn.values()) > 1:
            save_figure(overlaid(drawn), folder, name)


def side_by_side(found: Sequence[Finished], experiments: Sequence[Experiment]) -> Comparison:
    """The table of networks whose results have been read."""
    settings = {e.name: differing for e in experiments if (differing := _differing(e.name, found))}
    above = {e.name: _inherited(e, experiments, settings) for e in experiments}
    verdicts = [verdicts_of(one) for one in found]
    return Comparison(
        tuple(one.name for one in found),
        _facts(found),
        tuple(
            ClaimRow(claim, answers, above.get(claim.experiment, ()))
            for claim, answers in zip(CLAIMS, zip(*verdicts, strict=True), strict=True)
        ),
        tuple(row for e in experiments for row in _numbers(e, found, above[e.name])),
        settings,
        tuple(_notes(found, experiments)),
    )


def _differing(name: str, found: Sequence[Finished]) -> dict[str, tuple[str, ...]]:
    """Settings of an experiment that are not alike; "–" where there is no result.

    As they were asked for, and where the same words came to mean different methods (a preset is
    chosen by the size of the images), as they were taken. Counts, dimensions and lengths that
    grow with the images are none of these.
    """
    holders = [one if name in one.results else None for one in found]
    asked = [flat(one.config(name)) if one else None for one in holders]
    taken = [flat(one.identities[name].get("settings", {})) if one else None for one in holders]
    methods = [
        c and {k: v for k, v in c.items() if k not in (a or {})}
        for a, c in zip(asked, taken, strict=True)
    ]
    return _unlike(asked, lambda *_: True) | _unlike(methods, _is_method)


def _unlike(
    configs: Sequence[dict[str, Any] | None], counts: Callable[[str, Sequence[Any]], bool]
) -> dict[str, tuple[str, ...]]:
    """Settings whose values differ, of those that count."""
    there = [config for config in configs if config is not None]
    keys = dict.fromkeys(key for config in there for key in config)
    values = {key: [config.get(key) for config in there] for key in keys}
    return {
        key: tuple("–" if c is None else json.dumps(c.get(key)) for c in configs)
        for key, found in values.items()
        if any(value != found[0] for value in found) and counts(key, found)
    }


def _is_method(key: str, values: Sequence[Any]) -> bool:
    """Whether values of a setting that was filled in tell of different methods."""
    of_walks = key.endswith("tolerance") or "deepfool" in key
    return of_walks or any(isinstance(value, str | bool | None) for value in values)


def _inherited(
    experiment: Experiment,
    experiments: Sequence[Experiment],
    settings: Mapping[str, Mapping[str, Any]],
) -> tuple[str, ...]:
    """Settings that differ, of an experiment and of all that it starts from."""
    table = {e.name: e for e in experiments}
    names = [experiment.name]
    for name in names:
        before = (*table[name].inputs, *table[name].optional)
        names += [i for i in before if i not in names]
    return tuple(
        key if name == experiment.name else f"{name}.{key}"
        for name in names
        for key in settings.get(name, {})
    )


def _facts(found: Sequence[Finished]) -> dict[str, tuple[str, ...]]:
    told = [_facts_of(one) for one in found]
    return {name: tuple(facts[name] for facts in told) for name in told[0]}


def _facts_of(one: Finished) -> dict[str, str]:
    """What the numbers of a network are to be read with."""
    there = [*one.results.values()]
    data = next((str(ds.attrs["dataset"]) for ds in there if ds.attrs.get("dataset")), "")
    sides = (tuple(ds.sizes.get(d, 0) for d in ("row", "column", "channel")) for ds in there)
    shape = next((side for side in sides if all(side)), ())
    right = one.results["train"]["correct"] if "train" in one.results else None
    weights = (str(ds.attrs.get("weights_sha256", "")) for ds in there)
    return {
        "data set": re.sub("-(train|test|all)$", "", data) or "–",
        "rows, columns, channels": ", ".join(map(str, shape)) or "–",
        "test accuracy": (
            "–" if right is None else f"{100 * float(right.mean()):.1f} % of {right.size}"
        ),
        "weights": next(filter(None, weights), "–")[:8],
    }


def _numbers(
    experiment: Experiment, found: Sequence[Finished], differing: tuple[str, ...]
) -> list[NumberRow]:
    """The lines that an experiment tells, those of the same words in one row.

    Of lines that say the same of several things, such as norms, the first number tells which; of
    those that share it, too, their order.
    """
    name = experiment.name
    told = [
        [(" ".join(_NUMBER.sub("\0", line).split()), _NUMBER.findall(line)) for line in lines]
        for one in found
        for lines in [
            experiment.tell(one.results[name]).splitlines() if name in one.results else []
        ]
    ]
    often = {words for lines in told for words, n in Counter(w for w, _ in lines).items() if n > 1}
    rows: dict[tuple[str, str, int], dict[int, list[str]]] = {}
    for place, lines in enumerate(told):
        before: Counter[tuple[str, str]] = Counter()
        for words, numbers in lines:
            key = (words, numbers[0] if words in often and numbers else "")
            rows.setdefault((*key, before[key]), {})[place] = numbers
            before[key] += 1
    return [
        NumberRow(name, *_merged(words, which, numbers, len(found)), differing)
        for (words, which, _), numbers in rows.items()
    ]


def _merged(
    words: str, which: str, numbers: Mapping[int, Sequence[str]], count: int
) -> tuple[str, tuple[str, ...]]:
    """The words with the numbers that all networks share in place, and what is left for each."""
    columns = [*zip(*numbers.values(), strict=True)]
    common = [len(numbers) == count and len({*column}) == 1 for column in columns]
    if which:
        common[0] = True
    fill = iter([column[0] if same else "…" for column, same in zip(columns, common, strict=True)])
    text = re.sub("\0", lambda _: next(fill), words)
    cells = [
        ", ".join(n for n, same in zip(numbers[i], common, strict=True) if not same) or "the same"
        if i in numbers
        else "–"
        for i in range(count)
    ]
    return text, tuple(cells)


def _notes(found: Sequence[Finished], experiments: Sequence[Experiment]) -> list[str]:
    """What is missing or stale, and the command that mends it."""
    lines = []
    usual = {e.name for e in experiments if e.in_paper or any(e.name in o.results for o in found)}
    for one in found:
        for note in dict.fromkeys(one.notes.values()):
            names = [n for n, told in one.notes.items() if told == note and n in usual]
            if not names:
                continue
            lines.append(f"{one.name}: {', '.join(names)}: {note} ({remedy(one, *names)})")
    return lines
