"""What every process of the distributed tests does; started by torchrun."""

import sys
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
    """Parts are the main process's, whether kept before or computed now by all; so are rows."""
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
        assert rows["a"].to_numpy().tolist() == [0.0, 10.0, 20.0]
        assert keep("2", lambda: part(2))["a"].to_numpy().tolist() == [20.0]
    assert computed == [0, 2]
    state = keep.state("solve")
    assert (state is not None and state.parent == store.folder) if store else state is None
    # Without any store all compute, and get what the main process computed.
    assert SharedKeep(None)("0", lambda: part(0))["a"].to_numpy().tolist() == [0.0]
    assert SharedKeep(None).rows({"3": partial(part, 3)}, "x")["a"].to_numpy().tolist() == [30.0]
    if store:
        store.close()


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
