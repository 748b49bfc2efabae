"""The claims of the papers as the results in a folder answer them, in one table."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from geomadv import results
from geomadv.claims import CLAIMS, Verdict, judge
from geomadv.errors import InputError

_WORDS = ("holds", "does not hold", "not measured")


def claims(folder: Path) -> str:
    """Reads all results that exist, writes claims.md beside them and returns lines to print.

    Raises:
        InputError: results of different networks or data sets in one folder, or none.
    """
    found: dict[str, xr.Dataset] = {}
    for name in sorted({claim.experiment for claim in CLAIMS}):
        path = folder / f"{name}.h5"
        if path.exists():
            found[name] = results.load(path)
    if not found:
        raise InputError(f"{folder} holds no results: run `geomadv paper` first.")
    for attribute in ("weights_sha256", "dataset"):
        _check_same(found, attribute)
    verdicts = judge(found, CLAIMS)
    lines = [f"{v.answer:14}{_number(v):>18}  {v.claim.sentence}" for v in verdicts]
    counts = [f"{sum(v.answer == word for v in verdicts)} {word}" for word in _WORDS]
    network = next(iter(found.values())).attrs["network"]
    path = _write(folder / "claims.md", network, verdicts)
    return "\n".join([*lines, ", ".join(counts), f"claims: {path}"])


def _check_same(found: dict[str, xr.Dataset], attribute: str) -> None:
    """Raises an `InputError` where results are of different networks or data sets."""
    values = {name: str(ds.attrs.get(attribute, "")) for name, ds in found.items()}
    if attribute == "dataset":  # of either split; a result may take no images at all
        values = {name: value.rsplit("-", 1)[0] for name, value in values.items()}
    known = {name: value for name, value in values.items() if value and value != "toy problem"}
    common = next(iter(known.values()), "")
    other = [f"{name}.h5 ({value})" for name, value in known.items() if value != common]
    if other:
        raise InputError(
            f"results of another {attribute} than {common!r}: {', '.join(other)}. Keep those of "
            "each network and data set in a --results folder of their own."
        )


def _number(verdict: Verdict) -> str:
    if verdict.answer == "not measured":
        return ""
    return f"{verdict.value:.3g} {verdict.claim.relation} {verdict.claim.threshold:g}"


def _write(path: Path, network: str, verdicts: list[Verdict]) -> Path:
    """The table in Markdown, with what each number is and why one is missing."""
    lines = [
        f"# Claims, answered by {network}",
        "",
        "| claim | source | quantity | number | answer |",
        "|---|---|---|---|---|",
    ]
    for v in verdicts:
        c, note = v.claim, f" ({v.note})" if v.note else ""
        cells = (c.sentence, c.paper, c.quantity, _number(v), f"{v.answer}{note}")
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
