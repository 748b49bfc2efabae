"""The weights of a checkpoint that belong to a module: found under any key, and put into it.

A checkpoint holds more than one state dict, or one under a key, with names that wrappers
(DataParallel, torch.compile, Lightning) prefixed. The mapping that fits names and shapes is taken.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from geomadv.errors import InputError
from geomadv.networks.weights import Checkpoint, Entry

_SHOWN = 6  # entries of a list in a message
# Parts of names that wrappers add.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_MEANS, _STDS = ("mean", "means", "mu"), ("std", "stds", "sd", "sds", "sigma")
# Nobody subtracts so much from pixels in [0, 1]: such numbers are for pixels of 0..255.
_EIGHT_BIT = 3.0

Names = dict[str, str]


@dataclass(frozen=True)
class Normaliser:
    """A normalisation (x - mean) / std beside the weights, for pixels in [0, 1], per channel."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Fitted:
    """What came with the weights that were taken.

    Attributes:
        normaliser: found beside them.
        note: names of other tensors beside them, which have no effect; "" for none.
    """

    normaliser: Normaliser | None
    note: str


@dataclass(frozen=True)
class _Candidate:
    """A part of a checkpoint that has all names and shapes of the module.

    Attributes:
        place: the key that chooses it.
        used: name in the module -> name in the checkpoint.
        unexpected: names among its own that the module does not have.
    """

    place: str
    used: Names
    unexpected: tuple[str, ...] = ()


def put_weights(
    module: nn.Module,
    checkpoint: Checkpoint,
    network: str,
    key: str | None = None,
    channels: int = 0,
) -> Fitted:
    """Loads the part of a checkpoint that fits the module, in place.

    Batch-norm's `num_batches_tracked`, which no score depends on, may be missing.

    Args:
        module: gets the weights.
        checkpoint: tensors by name.
        network: its name, for messages.
        key: which part, where several fit.
        channels: of the images, to recognise a normalisation; 0: none is looked for.

    Raises:
        InputError: no part fits; lists what the file holds, missing and unexpected names and
            differing shapes. Or several fit with different values: names them.
    """
    if not any(entry.stored for entry in checkpoint.entries.values()):
        raise InputError(
            f"weights {checkpoint.origin} hold no state dict (a mapping from parameter names to "
            f"tensors){_seen(checkpoint)}. Save it with torch.save(model.state_dict(), path)."
        )
    full = module.state_dict()
    names, given = _named(full, checkpoint)
    candidates = _candidates(full, names, given, checkpoint)
    pairs = _normalisers(checkpoint, candidates, channels)
    known = {name for c in candidates for name in c.used.values()} | {n for p in pairs for n in p}
    fitting = [c for c in candidates if not set(c.unexpected) - known]
    if not fitting:
        raise InputError(_misfit(full, names, given, checkpoint, network, known))
    for own, name in [pair for c in fitting for pair in c.used.items()]:
        _check_numbers(full[own], checkpoint, name)
    chosen = _chosen(fitting, checkpoint, network, key)
    taken = {own: checkpoint.entries[name].value for own, name in chosen.used.items()}
    full.update(taken)  # keeps the layers' versions beside the tensors: MNASNet asks for its own
    module.load_state_dict(full, strict=True)
    # Of the same mapping, but neither a part of the network nor one that could be taken instead.
    nodes = {checkpoint.entries[name].node for name in chosen.used.values()}
    beside = [
        name
        for name, entry in checkpoint.entries.items()
        if entry.stored and entry.node in nodes and name not in known and not _is_counter(name)
    ]
    return Fitted(
        _normaliser(checkpoint, pairs, channels),
        f"not used of {checkpoint.origin}: {_some(beside)}" if beside else "",
    )


# Names


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] in ("num_batches_tracked", "n_averaged")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _seen(checkpoint: Checkpoint) -> str:
    return f"; the file holds {_some(checkpoint.keys)}" if checkpoint.keys else ""


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _named(full: Mapping[str, Tensor], checkpoint: Checkpoint) -> tuple[Names, Names]:
    """Names to compare -> names in the module, and names in the checkpoint.

    They go without the wrappers' parts where that leaves them different, those of the module also
    without the beginning that all of them share.
    """
    own = [k for k, v in full.items() if isinstance(v, Tensor) and not _is_counter(k)]
    given = [name for name, entry in checkpoint.entries.items() if entry.stored]
    plain = [{_plain(name): name for name in names} for names in (own, given)]
    if any(len(a) < len(b) for a, b in zip(plain, (own, given), strict=True)):
        plain = [{name: name for name in names} for names in (own, given)]
    return _without_lead(plain[0]), plain[1]


def _without_lead(names: Names) -> Names:
    """Takes off the parts that all names begin with, but not the name of a layer that is alone."""
    while len({name.partition(".")[0] for name in names}) == 1:
        shorter = {name.partition(".")[2]: own for name, own in names.items()}
        if not any("." in name for name in shorter):
            break
        names = shorter
    return names


# Parts that fit


def _fits(own: Tensor, entry: Entry) -> bool:
    return is_lazy(own) or own.shape == entry.value.shape


def _candidates(
    full: Mapping[str, Tensor], names: Names, given: Names, checkpoint: Checkpoint
) -> list[_Candidate]:
    anchor = next(iter(names), None)
    if anchor is None:
        return []
    found = []
    for name in given:
        prefix = name.removesuffix(anchor)
        if name == prefix or not (prefix == "" or prefix.endswith(".")):
            continue
        used = {own: given.get(prefix + n) for n, own in names.items()}
        complete = {own: n for own, n in used.items() if n is not None}
        if len(complete) == len(used) and all(
            _fits(full[own], checkpoint.entries[n]) for own, n in complete.items()
        ):
            unexpected = _unexpected(prefix, complete, given, checkpoint)
            found.append(_Candidate(_place(prefix, given[name]), complete, unexpected))
    return found


def _check_numbers(own: Tensor, checkpoint: Checkpoint, name: str) -> None:
    """Refuses tensors without plain values, and numbers that cannot stand for the network's."""
    value = checkpoint.entries[name].value
    if value.is_meta:
        found, remedy = "on the device meta, without values", "save the loaded weights"
    elif value.is_quantized:
        found, remedy = "quantised", "save them after dequantize()"
    elif value.layout != torch.strided:
        found, remedy = "sparse", "save them after to_dense()"
    elif _numbers(own) != _numbers(value):
        found, remedy = f"{value.dtype}", f"save them after to({own.dtype}), if they stand for such"
    else:
        return
    raise InputError(
        f"weights {checkpoint.origin}: {name} is {found}; expected plain {own.dtype} or alike: "
        f"{remedy}."
    )


def _numbers(value: Tensor) -> str:
    """The kind of numbers that a tensor holds; truth values were whole numbers once."""
    if value.is_complex():
        return "complex"
    return "real" if value.is_floating_point() else "whole"


def _unexpected(prefix: str, used: Names, given: Names, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Names with the prefix, in the same mappings, beyond those that are used."""
    nodes, taken = {checkpoint.entries[n].node for n in used.values()}, set(used.values())
    return tuple(
        raw
        for name, raw in given.items()
        if name.startswith(prefix)
        and checkpoint.entries[raw].node in nodes
        and raw not in taken
        and not _is_counter(raw)
    )


def _place(prefix: str, name: str) -> str:
    """What the user calls a prefix; "." for the outermost mapping."""
    lead = name.partition(".")[0]
    return prefix.removesuffix(".") or (lead if lead in _WRAPPERS else ".")


def _chosen(
    fitting: list[_Candidate], checkpoint: Checkpoint, network: str, key: str | None
) -> _Candidate:
    asked = [c for c in fitting if key is None or _is_at(c.place, key)]
    if not asked:
        raise InputError(
            f"weights_key={key!r} names nothing in {checkpoint.origin} that fits network "
            f"{network!r}. Fitting: {_quoted(fitting)}."
        )
    first, values = asked[0], checkpoint.entries
    for other in asked[1:]:
        if any(
            not torch.equal(values[first.used[own]].value, values[name].value)
            for own, name in other.used.items()
        ):
            raise InputError(
                f"weights {checkpoint.origin} hold different weights that fit network "
                f"{network!r}: {_quoted(asked)}. Choose with weights_key (--weights-key), for "
                f"example weights_key={other.place!r}."
            )
    return first


def _is_at(place: str, key: str) -> bool:
    """Whether the key names the place or a mapping around it."""
    return any(place == k or place.startswith(f"{k}.") for k in (key, _plain(key)) if k)


def _quoted(candidates: list[_Candidate]) -> str:
    return ", ".join(repr(c.place) for c in candidates)


# Normalisation


def _normalisers(
    checkpoint: Checkpoint, candidates: list[_Candidate], channels: int
) -> list[tuple[str, str]]:
    """Names of means and standard deviations of pixels beside the weights."""
    used = {name for c in candidates for name in c.used.values()}
    nodes = {checkpoint.entries[name].node for name in used}
    found = []
    for name, entry in checkpoint.entries.items():
        others = _deviations(name)
        other = next((o for o in others if o in checkpoint.entries and o not in used), None)
        if other is None or name in used or not channels:
            continue
        sizes = {entry.value.numel(), checkpoint.entries[other].value.numel()}
        # One number could be anything: it must stand beside the weights or say what it is.
        telling = sizes == {channels} and channels > 1
        telling |= (entry.stored and entry.node in nodes) or "norm" in name.lower()
        if telling and sizes <= {1, channels}:
            found.append((name, other))
    return found


def _deviations(mean: str) -> list[str]:
    """What the standard deviation that belongs to a mean of this name may be called."""
    stem, dot, last = mean.rpartition(".")
    words = last.split("_")
    at = next((i for i, word in enumerate(words) if word in _MEANS), None)
    if at is None:
        return []
    return [stem + dot + "_".join([*words[:at], std, *words[at + 1 :]]) for std in _STDS]


def _normaliser(
    checkpoint: Checkpoint, pairs: list[tuple[str, str]], channels: int
) -> Normaliser | None:
    found = []
    for names in pairs:
        values = [checkpoint.entries[n].value.flatten().double().expand(channels) for n in names]
        scale = 255.0 if max(float(v.abs().max()) for v in values) > _EIGHT_BIT else 1.0
        mean, std = (tuple((v / scale).tolist()) for v in values)
        found.append(Normaliser(" and ".join(names), mean, std))
    if any((f.mean, f.std) != (found[0].mean, found[0].std) for f in found):
        raise InputError(
            f"weights {checkpoint.origin} hold different normalisations: "
            f"{'; '.join(f.name for f in found)}. Give mean and std, and take the others out."
        )
    return found[0] if found else None


# What does not fit


def _misfit(
    full: Mapping[str, Tensor],
    names: Names,
    given: Names,
    checkpoint: Checkpoint,
    network: str,
    known: set[str],
) -> str:
    """The message about the part that fits best."""
    prefix = _closest_prefix(names, given)
    inside = {
        name.removeprefix(prefix): raw for name, raw in given.items() if name.startswith(prefix)
    }
    values = checkpoint.entries
    missing = [own for name, own in names.items() if name not in inside]
    unexpected = [
        raw
        for name, raw in inside.items()
        if name not in names and raw not in known and not _is_counter(raw)
    ]
    other = {
        own: inside[name]
        for name, own in names.items()
        if name in inside and not _fits(full[own], values[inside[name]])
    }
    shapes = [
        f"{own} is {tuple(values[raw].value.shape)}, expected {tuple(full[own].shape)}"
        for own, raw in other.items()
    ]
    listed = (("Missing", missing), ("Unexpected", unexpected), ("Shapes", shapes))
    return (
        f"weights {checkpoint.origin} do not fit network {network!r}{_seen(checkpoint)}. "
        + "".join(f"{title}: {_some(entries)}. " for title, entries in listed if entries)
        + _remedy(full, checkpoint, missing, unexpected, other)
    )


def _closest_prefix(names: Names, given: Names) -> str:
    """The prefix under which most of the names are found."""
    votes: Counter[str] = Counter()
    for name in given:
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in names:
                votes["".join(f"{part}." for part in parts[:i])] += 1
    if votes:
        return votes.most_common(1)[0][0]
    # No name agrees: the mapping with most tensors.
    nodes = Counter(name.rpartition(".")[0].partition(".")[0] for name in given)
    lead = f"{nodes.most_common(1)[0][0]}."
    return lead if all(name.startswith(lead) for name in given) else ""


def _remedy(
    full: Mapping[str, Tensor],
    checkpoint: Checkpoint,
    missing: list[str],
    unexpected: list[str],
    other: Names,
) -> str:
    values = checkpoint.entries
    if other and not missing and not unexpected:
        sizes = {(values[raw].value.shape[0], full[own].shape[0]) for own, raw in other.items()}
        rest = all(values[raw].value.shape[1:] == full[own].shape[1:] for own, raw in other.items())
        if len(sizes) == 1 and rest and len(other) <= 2:
            there, here = sizes.pop()
            return f"They give {there} scores, the network {here}: build it with {there} classes."
    if missing and all(_deviations(n) or n.rpartition(".")[2] in _STDS for n in missing):
        return (
            "The network holds a normalisation that the file does not: register it with "
            "persistent=False, or give the network without it and mean and std."
        )
    pairs = list(zip(missing, unexpected, strict=False))
    alike = all(_fits(full[own], values[raw]) for own, raw in pairs)
    if pairs and alike and len(missing) == len(unexpected):
        return (
            "Their shapes agree in this order, so that the names alone seem to differ: rename "
            f"them in the file, {unexpected[0]} to {missing[0]} and so on."
        )
    return "Give the weights of this architecture, or the network that they belong to."
