"""The doors of the package: arguments of public functions, checked by their annotations.

One mechanism in place of a check in every function: what is annotated as a network, a set of
images, a dataset or a number, and is something else, is refused before the function begins.
"""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType, MethodType
from typing import Annotated, Any, TypeVar

from geomadv.errors import InputError

# What NumPy makes an array of: an array, a tensor, a sequence.
Numbers = Annotated[Any, "numbers"]

F = TypeVar("F", bound=Callable[..., Any])

# Types that are checked, by the names that annotations give them, and how to make one.
_KINDS = {
    "Classifier": "Wrap a module: geomadv.Classifier(module, input_shape=(C, H, W), mean=..., "
    "std=...), a function in a module's forward; a network by name: geomadv.load_network(name).",
    "ImageSet": "Wrap arrays: geomadv.ImageSet(images, labels), images (N, C, H, W); by name or "
    "path: geomadv.load_images(name).",
    "Dataset": "Read the result file: geomadv.load(path), or run its experiment.",
    "BoundaryPoints": "Make them: geomadv.boundary_points(net, images).",
    "Subspace": "Make one: geomadv.Subspace(directions), directions (k, D).",
    "NestedSubspaces": "Make them with singular_families or curvature_families.",
    "PrincipalCurvatures": "Make them: geomadv.principal_curvatures(operator).",
    "CurvatureSettings": "Make them: CurvatureSettings(...) with its fields.",
    "CollisionSettings": "Make them: CollisionSettings(...) with its fields.",
    "DeepFoolSettings": "Make them: geomadv.DeepFoolSettings(...) with its fields.",
    "LinearOperator": "Make one: geomadv.mean_hessian(net, points).",
    "Doubt": "Take it from class_doubt, family_doubt or line_doubt.",
    "Experiment": "Take it from geomadv.pipeline.EXPERIMENTS, or make a geomadv.Experiment.",
    "PathLike": "",
    "Claim": "Take it from geomadv.claims.CLAIMS, or make a geomadv.claims.Claim.",
    "Tensor": "",
    "ndarray": "",
    "HDF5Dataset": "",
}


def door(function: F) -> F:
    """The function, whose arguments are checked by their annotations before it runs.

    Datasets that lack what the function looks up in them are refused as well.

    Raises:
        InputError: an argument of another type; the message says how to make what is expected.
    """
    signature = inspect.signature(function)
    several = [n for n, p in signature.parameters.items() if p.kind is p.VAR_POSITIONAL]

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # a call that Python refuses by itself, naming the argument
            return function(*args, **kwargs)
        texts = _texts(function)
        for name, value in given.items():
            for one in value if name in several else (value,):
                if name in texts and not _fits(one, texts[name]):
                    raise _refusal(function.__name__, name, one, texts[name])
        seed = given.get("seed")  # whose type is that of a number by now
        if seed is not None and not (hasattr(seed, "__index__") and seed >= 0):
            raise InputError(f"seed={seed!r}: expected a whole number, at least 0.")
        try:
            return function(*args, **kwargs)
        except KeyError as error:
            raise _lacking(given, error) or error from error

    return checked  # type: ignore[return-value]


def check_device(name: str, value: Any) -> None:
    """Tensors come from any device but `meta`, where they have no values.

    Raises:
        InputError: it is a tensor there.
    """
    if getattr(value, "is_meta", False):
        raise InputError(
            f"{name} lie on the device meta, where tensors have a shape but no values: make them "
            "on the CPU, or on the device of the network."
        )


def guarded(names: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a module's names that are functions, behind doors."""
    return {name: door(value) for name, value in names.items() if isinstance(value, FunctionType)}


@functools.cache
def _texts(function: Callable[..., Any]) -> dict[str, str]:
    """The annotations of parameters but `**` as texts, without the places of modules."""
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    return {
        name: _text(p.annotation, scope)
        for name, p in inspect.signature(function).parameters.items()
        if p.annotation is not p.empty and p.kind is not p.VAR_KEYWORD
    }


def _text(annotation: Any, scope: Mapping[str, Any]) -> str:
    if isinstance(annotation, str):
        alias = scope.get(annotation)
        if alias is None or isinstance(alias, type | FunctionType | MethodType):
            return _bare(annotation)
        annotation = alias
    return _bare(inspect.formatannotation(annotation))


def _bare(text: str) -> str:
    """An annotation without the places of its types."""
    text = re.sub(r"(\w+\.)+(?=\w)", "", text.replace("h5py.Dataset", "HDF5Dataset"))
    return text.replace("Annotated[Any, 'numbers']", "Numbers")


def _names(value: Any) -> set[str]:
    """The names of a value's type and of those that it derives from."""
    kinds = type(value).__mro__
    return {("HDF5" if k.__module__.startswith("h5py") else "") + k.__name__ for k in kinds}


def _fits(value: Any, text: str) -> bool:
    """Whether a value is of one of the types; True for types that are not checked here."""
    return any(_is(value, part.strip()) for part in _split(text, "|"))


def _split(text: str, separator: str) -> list[str]:
    """Parts of a text between separators outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(") - (letter in "])")
        if letter == separator and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _is(value: Any, text: str) -> bool:
    name, _, inside = text.strip("'\"").partition("[")
    if name == "None":
        return value is None
    if name in ("int", "float", "tuple"):  # which numbers is the function's own to say
        return hasattr(value, "__float__") or (name == "tuple" and isinstance(value, tuple))
    if name == "str":
        return isinstance(value, str) and "\0" not in value  # which no path may hold
    if name == "PathLike":
        return hasattr(value, "__fspath__")
    if name == "Numbers":
        return _several(value) or hasattr(value, "__float__")
    if name in ("Sequence", "Iterable"):
        return _are(value, inside[:-1])
    if name in ("Mapping", "dict"):
        pair = _split(inside[:-1], ",")
        return isinstance(value, Mapping) and _are(list(value.values()), pair[-1])
    name = {"NDArray": "ndarray"}.get(name, name)
    return name not in _KINDS or name in _names(value)


def _several(value: Any) -> bool:
    """Whether this is a sequence or an array."""
    if isinstance(value, str | bytes) or "Dataset" in _names(value):
        return False
    return isinstance(value, Sequence) or hasattr(value, "__array__")


def _are(values: Any, text: str) -> bool:
    if not _several(values):
        return isinstance(values, str) and text == "str"
    return getattr(values, "ndim", 1) > 0 and all(_fits(value, text) for value in values)


def _refusal(function: str, name: str, value: Any, text: str) -> InputError:
    hints = [hint for kind, hint in _KINDS.items() if hint and re.search(rf"\b{kind}\b", text)]
    found = type(value).__name__
    if isinstance(value, str | int | float):
        found += f" ({value!r})"
    return InputError(
        f"{function}: {name} is of type {found}, expected {text}. {' '.join(hints[:1])}".rstrip()
    )


def _lacking(given: Mapping[str, Any], error: KeyError) -> InputError | None:
    """The error for a dataset that lacks what was looked up; None where none does."""
    words = re.findall(r"'(\w+)'", str(error))
    for name, value in given.items():
        if "Dataset" in _names(value):
            missing = _missing(value, words)
            if missing:
                origin = value.attrs.get("experiment", "another experiment")
                return InputError(
                    f"{name}: the dataset (of {origin}) has no {missing}. Give the result of the "
                    f"experiment that has it; its own are {', '.join(map(str, value)) or 'none'}."
                )
    return None


def _missing(ds: Any, words: Iterable[str]) -> str:
    return next((w for w in words if w not in ds.variables and w not in ds.sizes), "")
