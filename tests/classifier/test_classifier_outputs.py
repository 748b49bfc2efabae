"""Networks that give more than a tensor: the scores are found, or named, and the rest is equal."""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geomadv.boundary import boundary_points
from geomadv.classifier import Classifier
from geomadv.curvature import mean_hessian
from geomadv.errors import InputError

SHAPE = (3, 8, 8)
Named = namedtuple("Named", ["loss", "logits"])


class ModelOutput(OrderedDict[str, Any]):
    """As in Hugging Face's transformers: a mapping whose entries are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


@dataclass
class Output:
    logits: Tensor
    features: Tensor


class Property:
    def __init__(self, scores: Tensor) -> None:
        self.hidden = (scores, scores)

    @property
    def logits(self) -> Tensor:
        return self.hidden[0]


class Gives(nn.Module):
    """Two convolutions with batch-norm; `form` makes what it gives of features and scores."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 4, 3, 2)
        )
        self.head, self.form = nn.Linear(36, 5), form

    def forward(self, x: Tensor) -> Any:
        features = self.features(x).flatten(1)
        return self.form(features, self.head(features))


def x() -> Tensor:
    return torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(2))


FOUND: dict[str, tuple[Callable[[Tensor, Tensor], Any], str | int | None]] = {
    "dict": (lambda f, s: {"features": f, "logits": s}, None),
    "ModelOutput": (lambda f, s: ModelOutput(loss=None, logits=s, hidden_states=(f, s)), None),
    "named tuple": (lambda f, s: Named(f, s), None),
    "dataclass": (lambda f, s: Output(s, f), None),
    "namespace": (lambda f, s: SimpleNamespace(logits=s, aux=f), None),
    "property": (lambda f, s: Property(s), None),
    "one field": (lambda f, s: {"out": s}, None),
    "tuple of one": (lambda f, s: (s,), None),
    "place in a tuple": (lambda f, s: (f, s), 1),
    "place as a word": (lambda f, s: [f, s], "1"),
    "named field": (lambda f, s: {"logits": f, "scores": s}, "scores"),
    "named attribute": (lambda f, s: SimpleNamespace(out=s, aux=f), "out"),
}


@pytest.mark.parametrize("case", FOUND)
def test_scores_are_found_and_everything_else_is_equal(case: str) -> None:
    form, output = FOUND[case]
    plain = Classifier(Gives(lambda _, s: s), SHAPE)
    net = Classifier(Gives(form), SHAPE, output=output)
    torch.testing.assert_close(net(x()), plain(x()))
    assert net.note.startswith("its scores are the output '")
    torch.testing.assert_close(net.to(dtype=torch.float64)(x()), plain.to(dtype=torch.float64)(x()))
    # Walks and second derivatives go through the same door.
    ours, theirs = (boundary_points(n, x(), target=1) for n in (net, plain))
    torch.testing.assert_close(ours.points, theirs.points)
    v = torch.randn(192, generator=torch.Generator().manual_seed(3)).numpy()
    a, b = (mean_hessian(n, p, hvp="exact") @ v for n, p in ((net, ours), (plain, theirs)))
    assert abs(a - b).max() <= 1e-4 * abs(b).max()  # float32


REFUSED: dict[str, tuple[Callable[[Tensor, Tensor], Any], str | int | None, str]] = {
    "tuple": (
        lambda f, s: (f, s),
        None,
        r"gives tuple \('0' \(8, 36\), '1' \(8, 5\)\).*Name the field.*output",
    ),
    "dict": (lambda f, s: {"a": f, "b": s}, None, r"gives dict \('a' \(8, 36\), 'b' \(8, 5\)\)"),
    "no such field": (
        lambda f, s: {"a": f, "b": s},
        "logit",
        r"output='logit': the network gives no such field, but 'a' \(8, 36\)",
    ),
    "tensor alone": (lambda f, s: s, "logits", "a tensor alone: leave output away"),
    "no place": (lambda f, s: (f, s), 2, "output=2"),
    "logits that are none": (lambda f, s: {"logits": s.softmax(1)}, None, "probabilities"),
    "field of maps": (lambda f, s: {"logits": f[:, :, None]}, None, r"gives \(8, 36, 1\)"),
    "a list in it": (lambda f, s: {"logits": [s]}, None, "gives list"),
    "nothing": (lambda f, s: None, None, "gives NoneType"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_rest_is_refused_with_the_reason(case: str) -> None:
    form, output, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        Classifier(Gives(form), SHAPE, output=output)
