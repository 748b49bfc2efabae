"""Claims: made-up results whose answers are known, weakened formulas, and the verdicts' words."""

import ast
import inspect
import math
from dataclasses import replace
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import xarray as xr
from claims_cases import CASES, NO_ROOM
from claims_for_tests import (
    QUICK,
    accuracy,
    compared,
    crossed,
    fractions,
    twin,
    universal,
)

from geomadv.claims import (
    CLAIMS,
    Claim,
    Measured,
    NotMeasured,
    Resamples,
    directions,
    judge,
    linear,
    subspaces,
)
from geomadv.claims import universal as universality
from geomadv.claims.claim import SHARE
from geomadv.errors import InputError

NAMED = {claim.name: claim for claim in CLAIMS}


@cache
def case(name: str, answer: int, number: int) -> xr.Dataset:
    return CASES[name][answer][number]()


def answers(claim: Claim) -> list[str]:
    """Of all its cases, the true ones first."""
    return [
        judge({claim.experiment: case(claim.name, i, k)}, [claim])[0].answer
        for i, made in enumerate(CASES[claim.name])
        for k in range(len(made))
    ]


def right(claim: Claim) -> list[str]:
    words = ("holds", "does not hold", "undecided")
    return [word for word, made in zip(words, CASES[claim.name], strict=False) for _ in made]


def test_every_claim_has_cases_and_a_name():
    assert len(NAMED) == len(CLAIMS)
    assert set(NAMED) == set(CASES)
    assert len({claim.sentence for claim in CLAIMS}) == len(CLAIMS)


@pytest.mark.parametrize("name", NAMED)
def test_claims_hold_where_they_are_true_and_only_there(name):
    assert answers(NAMED[name]) == right(NAMED[name])


# Mutation: a weakened formula must give another answer to one of the cases.

SWAPS = {
    **{a: b for pair in (("min", "max"), ("argmin", "argmax")) for a, b in (pair, pair[::-1])},
    "minimum": "maximum",
    "maximum": "minimum",
    "positive": "negative",
    "negative": "positive",
    "random": "flat",
    "flat": "random",
    "hi": "lo",
    "both": "positive",
    "perturbed_label": "noise_label",
    "noise_label": "perturbed_label",
    "universal": "DeepFool, one image",
    "DeepFool": "FGSM",
    "hidden_share": "noise_hidden_share",
    "noise_hidden_share": "hidden_share",
    "collision": "noise_collision",
    "noise_collision": "collision",
    "parallel_cosine": "random_parallel_cosine",
}
# What they are given changes no number.
WORDS = {"need_families", "told", "NotMeasured", "joined", "startswith", "family_doubt"}
MODULES: tuple[ModuleType, ...] = (directions, subspaces, universality, linear)


class Mutate(ast.NodeTransformer):
    """Swaps the word at one place among all that can be swapped, and tells where."""

    def __init__(self, place: int) -> None:
        self.place, self.count, self.inside, self.what = place, 0, "", ""

    def swap(self, word: str) -> str:
        self.count += 1
        if self.count - 1 != self.place:
            return word
        self.what = f"{self.inside}: {word} -> {SWAPS[word]}"
        return SWAPS[word]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if node.col_offset == 0 and not self.what:
            self.inside = node.name
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        named = getattr(node.func, "id", getattr(node.func, "attr", ""))
        return node if named in WORDS else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        # Conditions of what is not measured have tests of their own.
        return node if isinstance(node.body[0], ast.Raise) else self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        node.value = self.visit(node.value)
        node.attr = self.swap(node.attr) if node.attr in SWAPS else node.attr
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        known = isinstance(node.value, str) and node.value in SWAPS
        return ast.Constant(self.swap(node.value)) if known else node


def weakened(module: ModuleType, place: int) -> tuple[Mutate, dict[str, Any]]:
    """The names of the module with one swap in it."""
    change, names = Mutate(place), {"__name__": module.__name__}
    tree = ast.parse(inspect.getsource(module))
    # The claims themselves may name families, too; only the functions are looked at.
    tree.body = [change.visit(node) for node in tree.body if "Claim(" not in ast.unparse(node)]
    exec(compile(ast.fix_missing_locations(tree), "<mutant>", "exec"), names)
    return change, names


def unfound(module: ModuleType, place: int) -> tuple[str, bool]:
    """The swap at a place, and whether all claims of the module answer as before."""
    change, names = weakened(module, place)
    given = [(c, getattr(c.measure, "func", c.measure)) for c in CLAIMS]
    own = [(c, f.__name__) for c, f in given if inspect.getmodule(f) is module]
    own = [pair for pair in own if pair[1] == change.inside] or own  # or it is in a helper
    for claim, name in own:
        measure = partial(names[name], **getattr(claim.measure, "keywords", {}))
        try:
            if answers(replace(claim, measure=measure)) != right(claim):
                return change.what, False
        except Exception:  # whatever a senseless formula may raise
            return change.what, False
    return change.what, True


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.split(".")[-1])
def test_weakened_formulas_are_found(module, monkeypatch):
    monkeypatch.setattr("geomadv.claims.claim._DRAWS", 100)
    places = weakened(module, -1)[0].count
    assert places > 5
    found = [unfound(module, place) for place in range(places)]
    assert [what for what, same in found if same] == []


@pytest.mark.parametrize("name", NAMED)
def test_the_other_relation_the_other_contrast_and_exchanged_roles_are_found(name):
    claim = NAMED[name]
    other = {"over": "minus", "minus": "over", ">=": "<=", "<=": ">="}

    def exchanged(ds: xr.Dataset, resamples: Resamples) -> Measured:
        found = claim.measure(ds, resamples)
        return replace(found, effect=found.null, null=found.effect)

    changes: list[dict[str, Any]] = [{"relation": other[claim.relation]}, {"measure": exchanged}]
    if not claim.of_mathematics:
        changes.append({"contrast": other[claim.contrast]})
    for change in changes:
        assert answers(replace(claim, **change)) != right(claim), change


# What is not measured


def verdict(name: str, ds: xr.Dataset) -> tuple[str, str]:
    (found,) = judge({NAMED[name].experiment: ds}, [NAMED[name]])
    return found.answer, found.note


def lacking(ds: xr.Dataset, *families: str) -> xr.Dataset:
    return ds.sel(family=[f for f in ds["family"].to_numpy() if f not in families])


def ended(ds: xr.Dataset, family: str, steps: int) -> xr.Dataset:
    """The family is known up to so many steps alone."""
    known = (ds["family"] != family) | (ds["d"] < steps)
    return ds.assign(subspace_dimension=ds["subspace_dimension"].where(known))


def described(ds: xr.Dataset, words: str) -> xr.Dataset:
    return ds.assign(description=("family", [words] * ds.sizes["family"]))


def test_one_black_image_does_not_keep_rescaled_perturbations_from_being_judged():
    ds = case("rescaled_fooling", 0, 0)
    black = ds.assign(image_norm=ds["image_norm"].where(ds["sample"] > 0, 0.0))
    assert verdict("rescaled_fooling", black)[0] == verdict("rescaled_fooling", ds)[0] == "holds"


@pytest.mark.parametrize("name", ["subspace_fooling", "universal_norm"])
def test_the_order_of_norms_is_nothing_to_a_claim(name):
    ds = case(name, 0, 0)
    turned = ds.isel(norm=slice(None, None, -1))
    (one,), (other,) = (judge({NAMED[name].experiment: d}, [NAMED[name]]) for d in (ds, turned))
    assert (one.answer, one.effect, one.null) == (other.answer, other.effect, other.null)
    assert one.answer == "holds"


def test_random_directions_among_trailing_ones_are_said():
    kind = "trailing singular vectors of x (44 of them random, orthogonal to all rows)"
    order = described(case("trailing_accuracy", 0, 0), kind)
    confined = case("leading_below_trailing", 0, 0)
    confined["family"] = confined["family"].assign_attrs(family_lo=kind)
    assert "44 of them random" in verdict("trailing_accuracy", order)[1]
    assert "44 of them random" in verdict("leading_below_trailing", confined)[1]
    assert "random" not in verdict("leading_confined", confined)[1]


LARGE = case("rescaled_fooling", 0, 0).assign(norm=("sample", np.full(240, 0.14)))
ALIKE = case("normals_alike", 0, 0)
LOST = ALIKE.assign(squared_cosine=ALIKE["squared_cosine"] * np.nan)
POOR = accuracy(positive=QUICK).assign(constant_accuracy=("split", [1.0, 1.0]))


@pytest.mark.parametrize(
    ("name", "ds", "words"),
    [
        ("positive_dimensions", POOR, "no better than its most frequent class"),
        ("positive_dimensions", lacking(accuracy(), "random"), "no family 'random'"),
        (
            "positive_dimensions",
            ended(accuracy(), "positive", 3),
            "at least 0.114: no more",
        ),
        ("flat_accuracy", described(accuracy(), "random directions outside"), "random draw"),
        ("flat_accuracy", ended(accuracy(), "flat", 3), "end before half"),
        ("flat_accuracy", ended(accuracy(), "random", 3), "end before half"),
        ("leading_accuracy", twin().isel(d=[2]), "fewer than two dimensions"),
        ("flat_inert", crossed().assign(family_name=("family", ["random"] * 4)), "random ones"),
        ("universal_norm", compared([0, 0, 0.1, 0.2], [0] * 4), "fewer than half up to 0.4"),
        ("held_out_rate", universal(0.2, 0.1, random=0.3), "no more than random"),
        ("normals_alike", LOST, "holds no number"),
        ("held_out_rate", universal(0.8, 0.8).isel(held_out_sample=slice(0)), "0 of at least 10"),
        ("few_images", universal(0.8, 0.8).isel(size=[0, 1]), "both below and above 500"),
        ("few_images", universal(0.2, 0.1, random=0.3), "no more than random"),
        ("rescaled_fooling", LARGE, "14 % of the images' norm"),
        ("subspace_fooling", xr.Dataset(), "lacks energy_share: run it again with --refresh"),
        ("curved_norm", lacking(fractions([0, 1, 1, 1]), "both"), "no family 'both'"),
        ("hidden_change", xr.Dataset({"adversarial_dimension": 0}, {"feature": [0]}), "no adv"),
    ],
)
def test_what_cannot_be_told_is_not_measured_and_says_why(name, ds, words):
    answer, note = verdict(name, ds)
    assert (answer, words in note) == ("not measured", True), note


def test_a_family_that_ends_answers_what_it_suffices_for():
    # Ten dimensions do not suffice, and random directions need eight: at least 1.25.
    ds = ended(accuracy(random=QUICK), "positive", 5)
    assert verdict("positive_dimensions", ds)[0] == "does not hold"
    # Random ones do not reach it in 20 dimensions, four suffice: at most 0.35.
    assert verdict("positive_dimensions", ended(accuracy(QUICK), "random", 6))[0] == "holds"
    # Half of the squared norm in an eighth of the dimensions, no more are known.
    few = fractions([0, 0.5, 0.8, 1]).isel(d=slice(2))
    answer, note = verdict("curved_norm", few)
    assert (answer, "in 13 % of the dimensions" in note) == ("holds", True)


def test_principal_components_are_told_beside():
    ds = accuracy(positive=QUICK)
    pca = ds.sel(family=["negative"]).assign_coords(family=["image PCA"])
    both = xr.concat([ds, pca], "family", data_vars="minimal")
    assert "image PCA: 3" in verdict("positive_dimensions", both)[1]


# Intervals and words


def made(effect: Any, null: Any = 0.0, **changes: Any) -> Claim:
    given: dict[str, Any] = {"contrast": "minus", "relation": ">=", "threshold": 0.5} | changes
    words = ("name", "paper", "sentence", "one", "number", "others")
    return Claim(*words, lambda ds, resamples: Measured(effect, null, "9 images"), **given)


def test_the_interval_gives_the_answer():
    spread = np.append(0.6, np.linspace(0.4, 0.8, 1000))

    def answer(**changes: Any) -> str:
        return judge({"one": xr.Dataset()}, [made(spread, **changes)])[0].answer

    assert [answer(threshold=t) for t in (0.3, 0.6, 0.9)] == ["holds", "undecided", "does not hold"]
    flipped = [answer(threshold=t, relation="<=") for t in (0.3, 0.6, 0.9)]
    assert flipped == ["does not hold", "undecided", "holds"]
    (one,) = judge({"one": xr.Dataset()}, [made(spread)])
    np.testing.assert_allclose((one.value, one.low, one.high), (0.6, 0.41, 0.79), atol=1e-3)
    # Resamples without a number might be anything; ratios may be infinite.
    lost = np.append(0.6, np.where(np.arange(1000) < 50, math.nan, 0.6))
    (one,) = judge({"one": xr.Dataset()}, [made(lost)])
    assert (one.answer, one.low) == ("undecided", -math.inf)
    assert judge({"one": xr.Dataset()}, [made(0.1, contrast="over")])[0].value == math.inf
    (none,) = judge({"one": xr.Dataset()}, [made(math.nan)])
    assert (none.answer, none.note) == ("not measured", "the result holds no number")
    assert judge({}, [made(1.0)])[0].note == "no one.h5 yet"


@pytest.mark.parametrize(
    ("effect", "null", "contrast", "relation", "threshold", "answer"),
    [
        # Nothing is a quarter above 0.9, or a quarter below 0.1.
        (0.99, 0.9, "minus", ">=", 0.25, "not measured"),
        (1.0, 1.0, "minus", ">=", 0.25, "not measured"),
        (0.01, 0.1, "minus", "<=", -0.25, "not measured"),
        (0.8, 0.75, "minus", ">=", 0.25, "does not hold"),
        (0.8, 0.76, "minus", ">=", 0.25, "not measured"),
        (0.2, 0.25, "minus", "<=", -0.25, "does not hold"),
        # The opposite of the claim is a finding.
        (0.7, 0.9, "minus", ">=", 0.25, "does not hold"),
        (0.3, 0.1, "minus", "<=", -0.25, "does not hold"),
        (0.9, 0.6, "over", ">=", 2.0, "not measured"),
        (0.5, 0.6, "over", ">=", 2.0, "does not hold"),
        (0.9, 0.5, "over", ">=", 2.0, "does not hold"),
        (0.9, 0.6, "over", "<=", 0.5, "does not hold"),
        (0.0, 0.0, "over", ">=", 2.0, "not measured"),
        # An interval around no effect is not its opposite.
        (np.append(0.9, np.linspace(0.85, 0.95, 1000)), 0.9, "minus", ">=", 0.25, "not measured"),
    ],
)
def test_what_the_null_leaves_no_room_for_is_not_measured(
    effect, null, contrast, relation, threshold, answer
):
    claim = made(effect, null, contrast=contrast, relation=relation, threshold=threshold)
    (v,) = judge({"one": xr.Dataset()}, [replace(claim, ends=SHARE)])
    assert v.answer == answer
    assert ("no room" in v.note) == (answer == "not measured" and null > 0)


@pytest.mark.parametrize("name", NO_ROOM)
def test_claims_know_the_ends_of_their_quantities(name):
    (v,) = judge({NAMED[name].experiment: NO_ROOM[name]()}, [NAMED[name]])
    assert v.answer == "not measured"
    assert v.note.startswith("the null leaves no room")
    assert v.effect > 0  # what was measured stands beside the reason
    assert v.null > 0


def test_quantities_without_an_end_always_leave_room():
    assert judge({"one": xr.Dataset()}, [made(4.0, 9.0)])[0].answer == "does not hold"
    assert judge({"one": xr.Dataset()}, [made(9.1, 9.0)])[0].answer == "does not hold"


@pytest.mark.parametrize("bound", ["at least", "at most"])
def test_a_bound_answers_only_what_it_suffices_for(bound):
    def answer(value: float, relation: str) -> str:
        found = Measured(value, 0.0, "9 images", "half is known", bound)
        claim = replace(made(0.0, relation=relation), measure=lambda ds, resamples: found)
        return judge({"one": xr.Dataset()}, [claim])[0].answer

    enough = {"at least": ("holds", "does not hold"), "at most": ("does not hold", "holds")}[bound]
    beyond, short = (0.6, 0.4) if bound == "at least" else (0.4, 0.6)
    assert [answer(beyond, r) for r in (">=", "<=")] == list(enough)
    assert [answer(short, r) for r in (">=", "<=")] == ["not measured"] * 2


@pytest.mark.parametrize(("rate", "count"), [(0.3, 200), (0.5, 40), (0.9, 500)])
def test_rates_have_about_wilsons_interval(rate, count):
    z = 1.96
    centre = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    low, high = np.quantile(Resamples().rate(rate, count)[1:], (0.025, 0.975))
    # Of 1,000 draws a quantile at 0.025 is known to 12 % of the half width.
    assert abs(low - (centre - half)) < 0.2 * half
    assert abs(high - (centre + half)) < 0.2 * half


def test_shares_that_agree_on_every_image_may_differ_on_others() -> None:
    """Of 30 images none is in one alone: up to 1 - 0.025^(1/30) = 12 % of others may be."""
    resamples, rows = Resamples(), np.array([0.8, 0.7, 0.9] * 400)[:1001]
    apart = resamples.paired(rows, rows, 30) - rows
    assert apart[0] == 0
    low, high = np.quantile(apart, (0.025, 0.975))
    assert -0.12 < low < -0.03
    assert 0.03 < high < 0.12
    other = rows + 0.1 * (np.arange(1001) == 7)
    assert resamples.paired(rows, other, 30) is rows


def test_resamples_are_the_estimate_first_and_spread_as_the_mean_does():
    weights = Resamples().weights(400)
    assert (weights[0] == 1).all()
    assert (weights.sum(1) == 400).all()
    values = np.random.default_rng(0).standard_normal(400)
    means = weights[1:] @ values / 400
    # A deviation of 1,000 draws is known to 2.2 %.
    assert means.std() == pytest.approx(values.std() / 20, rel=0.1)
    with pytest.raises(NotMeasured, match="9 of at least 10"):
        Resamples().weights(9)
    with pytest.raises(NotMeasured, match="0 of at least 10"):
        Resamples().rate(math.nan, 0)


def test_thresholds_can_be_changed_by_name():
    ds = {"subspace_accuracy": accuracy(positive=QUICK)}
    (one,) = judge(ds, [NAMED["positive_dimensions"]], {"positive_dimensions": 0.1})
    assert (one.answer, one.claim.threshold) == ("does not hold", 0.1)
    with pytest.raises(InputError, match=r"positive_dimension=0\.1.*Did you mean"):
        judge({}, CLAIMS, {"positive_dimension": 0.1})
    with pytest.raises(InputError, match="finite"):
        judge({}, CLAIMS, {"transfer": math.nan})


def test_every_claim_tells_its_formula():
    for claim in CLAIMS:
        assert "Null: " in claim.formula or "being the null" in claim.formula
