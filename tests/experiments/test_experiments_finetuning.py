"""Fine-tuning on universal perturbations."""

import networks_for_tests as nets
import numpy as np
import pytest
import torch
from networks_for_tests import SHAPE, gaussian

from geomadv import ImageSet, InputError, experiments, plotting


def task(n, seed):
    """Images in the unit box, labelled by their first pixel."""
    x = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ImageSet(x.float(), (x[:, 0, 0, 0] > 0.5).long())


def leaning():
    """A trainable linear pair that looks at the first pixel and, needlessly, at the last."""
    w = torch.tensor([1.0, 0, 0, 0, 0, 1.0], dtype=torch.float64)
    layer = torch.nn.Linear(6, 2, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(4 * torch.stack([-w, w]))
        layer.bias.copy_(4 * torch.tensor([1.0, -1.0]))
    return nets.classifier(torch.nn.Sequential(torch.nn.Flatten(), layer), bounds=(0.0, 1.0))


def run(net, **change):
    arguments = {
        "images": task(400, 1),
        "held_out": task(200, 2),
        "radius": 0.3,
        "rounds": 2,
        "pool": 2,
        "samples": 60,
        "learning_rate": 0.05,
        "search": {"passes": 1},
        **change,
    }
    return experiments.finetuning(net, **arguments)


def test_training_mends_a_needless_direction_and_leaves_the_original_alone(tmp_path):
    net = leaning()
    before = net.weights_sha256
    a, b = run(net), run(net)
    assert net.weights_sha256 == before
    assert a.identical(b)
    assert a["round"].values.tolist() == [0, 1, 2]
    # Labels do not depend on the last pixel: training forgets it, so that accuracy rises by far
    # and the first perturbations, half of whose length lies there, fool fewer.
    # In the unit box x_1 > 1/2 and x_1 + x_6 > 1 agree on 3/4, here ± 3 % (200 images).
    assert float(a["accuracy"][0]) < 0.85
    assert float(a["accuracy"][-1]) > 0.9
    assert float(a["first_fooling_rate"][-1].mean()) < float(a["first_fooling_rate"][0].mean())
    np.testing.assert_array_equal(a["fooling_rate"][0], a["first_fooling_rate"][0])
    norms = np.sqrt((a["perturbation"] ** 2).sum(("channel", "row", "column")))
    assert float(norms.max()) <= 0.3 * (1 + 1e-12)
    for name in a.variables:
        assert a[name].attrs["long_name"]
        assert a[name].attrs["units"]
    plotting.finetuning(a).savefig(tmp_path / "figure.pdf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0.0}, "radius"),
        ({"p": 1}, "p=1"),
        ({"rounds": 0}, "rounds=0"),
        ({"pool": 0}, "pool=0"),
        ({"samples": 0}, "samples=0"),
        ({"epochs": 0}, "epochs=0"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"images": ImageSet(torch.rand(3, *SHAPE))}, "no labels"),
        ({"images": ImageSet(torch.rand(1, *SHAPE), torch.tensor([2]))}, "images: label 2"),
        ({"held_out": ImageSet(torch.rand(1, *SHAPE), torch.tensor([2]))}, "held_out: label 2"),
        ({"images": torch.rand(3, *SHAPE)}, "images is of type Tensor"),
        ({"search": {"seed": 3}}, "search: 'seed'"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(InputError, match=message):
        run(leaning(), **change)


def test_a_network_of_formulas_has_nothing_to_train():
    with pytest.raises(InputError, match="parameters"):
        run(nets.linear_pair(gaussian(6), 0.0))
