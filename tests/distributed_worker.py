"""What every process of the distributed tests does; started by torchrun."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from networks_for_tests import gaussian, perceptron

from geomadv import distributed
from geomadv.boundary import boundary_points
from geomadv.curvature import mean_hessian
from geomadv.curvature.shared import SharedMean, solve_on_main
from geomadv.errors import InputError


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
