"""What every process of the distributed tests does; started by torchrun."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from networks_for_tests import gaussian, perceptron

from geomadv import distributed
from geomadv.boundary import boundary_points
from geomadv.curvature import mean_hessian
from geomadv.curvature.shared import SharedMean, solve_on_main
from geomadv.errors import InputError
from geomadv.results import SharedKeep, Store


def share_parts(folder: Path) -> None:
    """Parts are the main process's, whether kept before or computed now; processes divide them."""
    main, computed = distributed.is_main(), []

    def part(i: int) -> xr.Dataset:
        computed.append(i)
        return xr.Dataset({"a": ("x", [10.0 * i + distributed.rank()])})

    store = Store(folder / "a.h5", {}) if main else None
    if store:
        store("1", lambda: part(1))
        computed.clear()
    keep = SharedKeep(store)
    for _ in range(2):
        rows = keep.rows({str(i): partial(part, i) for i in range(3)}, "x")
        assert rows["a"].to_numpy().tolist() == [0.0, 10.0, 21.0]
        assert keep("3", lambda: part(3))["a"].to_numpy().tolist() == [30.0]
    assert computed == [[0, 3], [2]][distributed.rank()]  # one part is the main process's
    together = keep.rows({"3": partial(part, 3), "4": partial(part, 4)}, "x", together=True)
    assert together["a"].to_numpy().tolist() == [30.0, 40.0]
    assert computed == [[0, 3, 4], [2, 4]][distributed.rank()]
    state = keep.state("solve")
    assert (state is not None and state.parent == store.folder) if store else state is None
    refuse_one(keep, store, part)
    if store:
        store.close()


def refuse_one(keep: SharedKeep, store: Store | None, part: Callable[[int], xr.Dataset]) -> None:
    """What one process refuses stops all of them; what the others computed beside it is kept."""

    def nested(i: int) -> xr.Dataset:
        return keep(f"pass-{i}", partial(part, i)) + 0.5

    def refused() -> xr.Dataset:
        raise InputError(f"refused by process {distributed.rank()}")

    done: list[int] = []
    parts = {"5": partial(nested, 5), "6": refused, "7": partial(nested, 7)}
    with pytest.raises(InputError, match="refused by process 1"):
        keep.each(parts, lambda: done.append(1))
    assert store is None or (store.has("5") and not store.has("6"))
    found = keep.each(parts | {"6": partial(nested, 6)}, lambda: done.append(1))
    # The second time the missing ones are 6 and 7, and the main process takes the first of them.
    assert [float(ds["a"][0]) for ds in found] == [50.5, 60.5, 71.5]
    assert len(done) == len(found)
    assert store is None or [store.has(f"pass-{i}") for i in (5, 6, 7)] == [True, True, False]


def main(folder: Path) -> None:
    distributed.start()
    distributed.start()  # a second time does nothing
    rank, size = distributed.rank(), distributed.size()
    assert distributed.is_main() == (rank == 0)

    ones = torch.ones(3, dtype=torch.float64)
    total = distributed.sum_over_processes((rank + 1) * ones)
    assert torch.equal(total, size * (size + 1) / 2 * ones)
    numbers = torch.arange(5)
    assert torch.equal(distributed.gather_rows(numbers[distributed.share(5)]), numbers)
    assert distributed.from_main(("of", rank)) == ("of", 0)
    made = folder / "made"
    with distributed.main_first():
        if distributed.is_main():
            made.write_text("")
        assert made.exists()
    share_parts(folder)

    net = perceptron(bounds=(-10.0, 10.0))
    points = boundary_points(net, gaussian(9, *net.input_shape, seed=3), target=1)
    points = points[points.converged]

    def shared(used):
        mine = used[distributed.share(len(used))]
        local = mean_hessian(net, mine) if len(mine) else None
        return SharedMean(local, net.dimension, net.dtype, net.device)

    def product(operator):
        return operator.matmat(np.eye(net.dimension))

    all_of_them = solve_on_main(shared(points), product)
    # One point: the other processes have none.
    one = solve_on_main(shared(points[:1]), product)

    def fails(operator):
        operator.matvec(np.ones(net.dimension))
        raise InputError("refused on the main process")

    with pytest.raises(InputError, match="refused"):
        solve_on_main(shared(points), fails)
    np.savez(folder / f"{rank}.npz", all=all_of_them, one=one)
    distributed.stop()
    assert distributed.size() == 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
