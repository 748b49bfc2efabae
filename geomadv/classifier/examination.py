"""A network's scores of a few images, tried out when it becomes a Classifier.

What can be mended is mended in the frozen copy, with a note; what cannot is refused with its
reason: scores that are no logits, chance, images that depend on each other, a state that calls
change, numbers below float32.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from geomadv.classifier.beyond import across_bounds, check_no_jump
from geomadv.classifier.logits import check_logits
from geomadv.classifier.normalised import Normalised, differs_in_double, freeze
from geomadv.classifier.outputs import listed
from geomadv.classifier.precision import is_low, types_computed
from geomadv.classifier.probes import (
    ORDERS,
    REPEATS,
    Probes,
    allowance,
    class_spread,
    scores_differ,
)
from geomadv.classifier.watching import Watch
from geomadv.errors import InputError, ShapeError

# Passes in which the scores of a module that draws random numbers have to repeat.
_DRAWS = 30

_State = dict[str, tuple[torch.Size, Tensor]]


@dataclass(frozen=True)
class Examined:
    """Scores (n, classes) of the plain module on the probes, and what was adapted for them."""

    scores: Tensor
    notes: list[str]


@torch.no_grad()
def examine(
    module: Normalised,
    x: Tensor,
    bounds: tuple[float, float],
    name: str,
    foreign: Iterable[Tensor],
) -> Examined:
    """Tries the module on probe images x (n, C, H, W) and sets what it needs to work on them.

    foreign: parameters of the module that this one is a copy of.

    Raises:
        InputError: it does not take the images, or its scores are not logits (N, >= 2) that
            depend on each image alone, in the same way within the bounds and beyond.
    """
    _check_not_quantised(module, name)
    notes = _fill_lazy_layers(module, x, name)
    before = _state(module)
    scores = first_scores(module, x, name)
    settled = _state(module)
    notes += check_logits(module, x, scores, name)
    alone = torch.cat([_alone(module, x, i, scores.shape, name) for i in range(Probes.GENERIC)])
    with Watch(foreign) as seen:
        again = module(x)
    _check_state(settled, _state(module), name)
    _check_own(seen, name)
    notes += _check_repeats(module, x, scores, again, seen.random, name)
    _check_alone(module, x, scores, alone, name)
    check_no_jump(module, x[:1], bounds, scores, name)
    beyond = across_bounds(x[:1], bounds)
    alone = torch.cat([_alone(module, beyond, i, scores.shape, name) for i in range(len(beyond))])
    _check_alone(module, beyond, module(beyond), alone, name, scores)
    notes += _equal_classes(scores)
    if filled := _changed(before, settled):
        notes.append(f"its first call, on noise, set {_some(filled)}")
    if module.taken:
        notes.append(f"its scores are the output {module.taken!r}")
    if module.pairs:
        notes.append("an image alone is evaluated twice, as the module drops a batch of one")
    if module.lifted:
        notes.append(f"casts and autocast inside have no effect: computed in {x.dtype}")
    return Examined(scores, notes)


@torch.no_grad()
def first_scores(module: Normalised, x: Tensor, name: str) -> Tensor:
    """Scores (n, classes), with nothing computed below float32.

    Raises:
        InputError: the module does not take the images, computes below float32, or its scores
            have another form.
    """
    module.lifted = module.recast = False
    try:
        scores, low = types_computed(module, x)
    except InputError:  # the field that the user names
        raise
    except Exception as error:  # a foreign module may raise anything
        scores, low = _lifted(module, x)
        if scores is None and "does not require grad" in str(error):
            raise InputError(
                f"network {name!r} takes gradients in its forward, and under torch.no_grad, where "
                "geomadv evaluates it, there are none. Let it compute inside torch.enable_grad(), "
                "on an input that requires them (x if x.requires_grad else x.requires_grad_())."
            ) from error
        if scores is None:
            raise ShapeError(
                f"network {name!r} does not take images of input_shape={tuple(x.shape[1:])} "
                f"in {x.dtype}: {error}. Give the size that it was made for."
            ) from error
    # A scripted part computes as it was compiled, and not alike at every call.
    scripted = any(isinstance(m, torch.jit.ScriptModule) for m in module.modules())
    if low and not (module.lifted or scripted):
        lifted, still_low = _lifted(module, x)
        scores, low = (scores, low) if lifted is None else (lifted, still_low)
    if any(is_low(dtype) for dtype in low):
        raise InputError(
            f"network {name!r} computes in {', '.join(map(str, sorted(low, key=str)))} inside, "
            f"which geomadv cannot change to {x.dtype} there. Below float32 boundary points and "
            "normals are rounding; build the network without half precision and autocast."
        )
    _check_form(scores, len(x), name)
    module.recast = scores.dtype != x.dtype
    result: Tensor = scores.to(x.dtype)
    return result


def _lifted(module: Normalised, x: Tensor) -> tuple[Any, set[torch.dtype]]:
    """Scores with every cast inside made ineffective; None, and off again, where that fails."""
    module.lifted = True
    try:
        scores, low = types_computed(module, x)
    except Exception:  # a foreign module may raise anything
        module.lifted = False
        return None, set()
    return scores, low


def _check_not_quantised(module: nn.Module, name: str) -> None:
    layers = [
        key.removeprefix("module.")
        for key, m in module.named_modules()
        if ".quantized." in f"{type(m).__module__}."
    ]
    if layers:
        raise InputError(
            f"network {name!r} has quantised layers ({_some(layers)}): they compute in 8 bits and "
            "have no gradient. Pass the network in floating numbers, before quantisation."
        )


def _fill_lazy_layers(module: Normalised, x: Tensor, name: str) -> list[str]:
    def lazy() -> bool:
        return any(is_lazy(p) for p in module.parameters())

    if not lazy():
        return []
    try:
        module(x)
    except Exception as error:  # a foreign module may raise anything
        raise InputError(
            f"network {name!r} has lazy layers, which a first call could not initialise: {error}. "
            "Give the input_shape that it was made for, or call it once before."
        ) from error
    if lazy():
        raise InputError(
            f"network {name!r} has lazy layers that its forward never calls. Call it once, then "
            "load its weights."
        )
    freeze(module)
    return ["lazy layers had no weights yet and were initialised at random"]


def _alone(module: Normalised, x: Tensor, i: int, shape: tuple[int, ...], name: str) -> Tensor:
    """Scores (1, classes) of one image; as a pair where the module drops a batch of one."""
    try:
        scores: Any = module(x[i : i + 1])
        if isinstance(scores, Tensor) and scores.shape == (1, *shape[1:]):
            return scores
        found = f"gives {tuple(scores.shape)}" if isinstance(scores, Tensor) else "gives no tensor"
    except Exception as error:  # a foreign module may raise anything
        found = f"fails: {error}"
    if module.pairs:
        raise InputError(
            f"network {name!r} {found} for a single image, but works on {len(x)}. geomadv needs "
            "scores (N, classes) for any N; squeeze no batch dimension in its forward."
        )
    module.pairs = True
    return _alone(module, x, i, shape, name)


def _check_form(scores: Any, images: int, name: str) -> None:
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != images:
        if isinstance(scores, Tensor):
            found, remedy = f"{tuple(scores.shape)}", "Wrap it so that it returns that alone."
        else:
            found = f"{type(scores).__name__} ({listed(scores)})"
            remedy = "Name the field that holds them with output, or wrap it."
        raise InputError(
            f"network {name!r} gives {found} for {images} images; expected a ({images}, classes) "
            f"tensor of scores. {remedy}"
        )
    if not scores.is_floating_point():
        raise InputError(
            f"network {name!r} gives {scores.dtype}; expected floating scores, one a class. Return "
            "what its last layer gives, before any argmax."
        )
    if scores.shape[1] < 2:
        raise InputError(
            f"network {name!r} gives a single score per image. Wrap it so that it gives "
            "one per class, for a binary score s for example torch.cat([-s, s], 1) / 2."
        )
    # A network that standardises each image gives 0 / 0 on constant ones.
    if not scores[: Probes.GENERIC].isfinite().all():
        raise InputError(f"network {name!r} gives non-finite scores. {_not_finite(scores)}")


def _not_finite(scores: Tensor) -> str:
    """What to do about scores (n, classes) that are not finite."""
    masked = (scores == -torch.inf).all(0)
    if masked.any() and scores[: Probes.GENERIC, ~masked].isfinite().all():
        classes = _some([str(k) for k in masked.nonzero().flatten().tolist()])
        return (
            f"They are -inf for every image in class {classes}: masked classes. Leave them out, or "
            "mask by a finite number such as -1e9."
        )
    return "Check its weights."


def _state(module: nn.Module) -> _State:
    """Sums of the floating parameters and buffers, but not of those that have no values yet."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {key: (t.shape, t.detach().sum()) for key, t in named if t.is_floating_point()}


def _changed(before: _State, after: _State) -> list[str]:
    def same(one: tuple[torch.Size, Tensor], two: tuple[torch.Size, Tensor]) -> bool:
        # What changes its shape is a place for values kept between calls.
        return one[0] != two[0] or torch.allclose(one[1], two[1], rtol=0, atol=0, equal_nan=True)

    return [key for key in before if key in after and not same(before[key], after[key])]


def _some(keys: list[str]) -> str:
    named = ", ".join(key.removeprefix("module.") for key in keys[:3])
    return f"{named} ..." if keys[3:] else named


def _check_state(before: _State, after: _State, name: str) -> None:
    if changed := _changed(before, after):
        raise InputError(
            f"network {name!r} changes {_some(changed)} "
            "whenever it is called, also in eval mode: a batch-norm that keeps training "
            "(F.batch_norm with training=True), or a running average. Keep its state fixed in "
            "eval mode."
        )


def _check_own(seen: Watch, name: str) -> None:
    if seen.borrows:
        raise InputError(
            f"network {name!r} calls layers of the module that it was copied from: a lambda, hook "
            "or other function in it holds them, so that the copy changes when they are trained "
            "and its checksum does not. Make that function a method, which takes them from self."
        )


def _check_repeats(
    module: nn.Module, x: Tensor, scores: Tensor, again: Tensor, random: str, name: str
) -> list[str]:
    """Refuses scores that depend on chance; a note where the module draws, and it has no effect.

    random: the call by which it draws random numbers; "" for none.
    """
    allowed = allowance(scores, REPEATS)
    passes = itertools.chain([again], (module(x) for _ in range(_DRAWS * bool(random))))
    if any(scores_differ(found, scores, allowed).any() for found in passes):
        raise _by_chance(name)
    told = f"its forward draws random numbers ({random}); the scores of {len(x)} images were "
    return [f"{told}the same in {_DRAWS} passes"] if random else []


def _by_chance(name: str) -> InputError:
    return InputError(
        f"network {name!r} gives different scores for the same images: its outputs are not "
        "deterministic. Remove noise or dropout that stays active in eval mode."
    )


def _equal_classes(scores: Tensor) -> list[str]:
    """A note on classes that vary, and have the same scores on all images."""
    allowed, varying = allowance(scores, REPEATS), class_spread(scores) > 0
    order = scores[0].argsort(stable=True)
    one, two = order[:-1], order[1:]
    apart = scores_differ(scores[:, one], scores[:, two], allowed[:, two])
    same = (~apart.any(0) & varying[one]).nonzero().flatten().tolist()
    if not same:
        return []
    pairs = [sorted((int(one[k]), int(two[k]))) for k in same]
    named = ", ".join(f"{k} and {other}" for k, other in sorted(pairs)[:3])
    more = f" and {len(pairs) - 3} more pairs" if pairs[3:] else ""
    return [f"classes {named}{more} have equal scores: no boundary parts them"]


def _check_alone(
    module: nn.Module,
    x: Tensor,
    scores: Tensor,
    alone: Tensor,
    name: str,
    more: Tensor | None = None,
) -> None:
    """more: scores of further images, where those of x are too alike to tell how classes vary."""
    # Another batch size may run other kernels; mixing images shows more.
    told = scores if more is None else torch.cat([scores, more])
    allowed = allowance(told, ORDERS)[: len(scores)]
    if not scores_differ(alone, scores[: len(alone)], allowed[: len(alone)]).any():
        return

    def one_by_one(double: nn.Module, at: Tensor) -> Tensor:
        return torch.cat([double(row) for row in at[: len(alone)].split(1)])

    if not differs_in_double(module, x, one_by_one):
        return
    # Chance, too, shows as a difference: only if all images repeat is it the batch.
    if scores_differ(module(x), scores, allowed).any():
        raise _by_chance(name)
    raise InputError(
        f"network {name!r} gives an image different scores alone and in a batch: "
        f"{_mixes(module)}. geomadv needs per-image scores."
    )


def _mixes(module: nn.Module) -> str:
    """What makes the scores of an image depend on the others."""
    norms = [
        key.removeprefix("module.")
        for key, m in module.named_modules()
        if isinstance(m, _BatchNorm) and m.running_mean is None
    ]
    if norms:
        return f"batch-norm without running statistics ({', '.join(norms[:3])})"
    return (
        "its forward mixes the images of a batch (a mean, maximum or norm over dimension 0, "
        "F.batch_norm with training=True, attention across images, a reshape)"
    )
