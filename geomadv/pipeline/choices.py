"""What was chosen for a run and why, for those who ask with `-v`: the numbers stay the same."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import xarray as xr

from geomadv import distributed
from geomadv.classifier.batching import batch_limits
from geomadv.pipeline.plan import size
from geomadv.pipeline.study import Study


def chosen_lines(study: Study, processes: str) -> str:
    """Device, processes, engine, batches and memory of a run, each with its reason and flag.

    processes: what was asked for.
    """
    lines = {
        "device": _device(study),
        "processes": _processes(processes),
        "engine": study.net.evaluation,
        "batches": _batches(study),
        "memory": _memory(study),
    }
    return "\n".join(f"{name:10}{words}" for name, words in lines.items())


def _device(study: Study) -> str:
    found = "auto takes a GPU where torch finds one"
    return f"{study.net.device}, as {found if study.place.device == 'auto' else 'given'} (--device)"


def _processes(asked: str) -> str:
    why = "auto takes two where there are two cores and no GPU" if asked == "auto" else "given"
    threads = f"torch works with {torch.get_num_threads()} of the machine's threads in each"
    return f"{distributed.size()}, as {why} (--processes); {threads} (OMP_NUM_THREADS)"


def _batches(study: Study) -> str:
    net, given = study.net, study.place.batch_size
    images, most = batch_limits(net.device)
    why = "as given"
    if given is None:
        why = (
            f"each keeps {size(net.bytes_per_image)} for its gradient, and {net.device} takes up "
            f"to {images} images and {size(most)}"
        )
    return f"{net.batch_size(given)} images a pass: {why} (--batch-size)"


def _memory(study: Study) -> str:
    given = study.place.memory
    kept = "a quarter of what is free then" if given is None else f"{size(given)}, as given,"
    return f"{kept} for what exact Hessian products keep for reuse (--memory)"


def products_lines(ds: xr.Dataset) -> Iterator[str]:
    """Which Hessian-vector products the classes of a result were measured by, and why."""
    if "kind" not in ds or "flag_meanings" not in ds["kind"].attrs:
        return
    kinds = dict(
        zip(ds["kind"].attrs["flag_values"], ds["kind"].attrs["flag_meanings"].split(), strict=True)
    )
    for kind in dict.fromkeys(ds["kind"].to_numpy().tolist()):
        some = ds.isel({"class": ds["kind"].to_numpy() == kind})
        classes = "all classes" if some.sizes["class"] == ds.sizes["class"] else "classes "
        if classes == "classes ":
            classes += ", ".join(map(str, some["class"].to_numpy()))
        yield f"Hessian products of {classes}: {kinds[kind]}{_why(some, kinds[kind])}"


def _why(ds: xr.Dataset, kind: str) -> str:
    steps = ds["hvp_step"].to_numpy()
    length = "" if (steps != steps).all() else f", step {min(steps):.3g} to {max(steps):.3g}"
    if note := str(ds["kind"].attrs.get("note", "")):
        return f"{length} ({note})"
    if kind == "exact":
        return ", as the boundary points show a smooth network or it was asked for (hvp)"
    return f"{length}, as asked for or as the network is piecewise linear (hvp)"
