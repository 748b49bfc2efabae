"""The claims of the papers as this network's results answer them, in one table.

--network, --weights and --results choose the files; nothing is computed, so the flags of images,
seed and batches mean nothing here.
"""

from dataclasses import dataclass
from pathlib import Path

import xarray as xr
from common import Flags, check_same_network, load_network, main, result_path

import geomadv as ga
from geomadv.claims import CLAIMS, Verdict, judge


@dataclass(kw_only=True)
class Claims(Flags):
    """Flags of this script: --network and --results choose the files, the others mean nothing."""


def run(flags: Claims) -> None:
    """Reads all results of the network that exist; prints the table and writes it as claims.md."""
    net = load_network(flags)
    folder = result_path(flags, net, "claims").parent
    results: dict[str, xr.Dataset] = {}
    for name in sorted({claim.experiment for claim in CLAIMS}):
        path = folder / f"{name}.h5"
        if path.exists():
            results[name] = ga.load(path)
            check_same_network(results[name], path, net)
    check_same_data(results)
    verdicts = judge(results, CLAIMS)
    for verdict in verdicts:
        print(f"{verdict.answer:14}{_number(verdict):>18}  {verdict.claim.sentence}")
    counts = [f"{sum(v.answer == word for v in verdicts)} {word}" for word in _WORDS]
    print(", ".join(counts))
    print(f"claims: {_write(folder / 'claims.md', net, verdicts)}")


def check_same_data(results: dict[str, xr.Dataset]) -> None:
    """Raises an `InputError` where results are of different data sets, of either split."""
    found = {name: ds.attrs["dataset"].rsplit("-", 1)[0] for name, ds in results.items()}
    common = next(iter(found.values()), "")
    other = [f"{name}.h5 ({found[name]})" for name in found if found[name] != common]
    if other:
        raise ga.InputError(
            f"results of other images than {common!r}: {', '.join(other)}. Keep those of each data "
            "set in a --results folder of their own."
        )


_WORDS = ("holds", "does not hold", "not measured")


def _number(verdict: Verdict) -> str:
    if verdict.answer == "not measured":
        return ""
    return f"{verdict.value:.3g} {verdict.claim.relation} {verdict.claim.threshold:g}"


def _write(path: Path, net: ga.Classifier, verdicts: list[Verdict]) -> Path:
    """The table in Markdown, with what each number is and why one is missing."""
    lines = [
        f"# Claims, answered by {net.name}",
        "",
        "| claim | source | quantity | number | answer |",
        "|---|---|---|---|---|",
    ]
    for v in verdicts:
        c = v.claim
        note = f" ({v.note})" if v.note else ""
        lines.append(
            f"| {c.sentence} | {c.paper} | {c.quantity} | {_number(v)} | {v.answer}{note} |"
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    main(Claims, run)
