"""Names and units of the variables of `softmax_directions`."""

import xarray as xr

from geomadv.labels import IMAGE, label_variables
from geomadv.last_layer.boundary_angles import RELATIONS
from geomadv.last_layer.regions import TESTS

EXAMPLE = ("example", *IMAGE)

_RELATIVE = "remaining share of the pair's distance in visible features"
_LABELS = {
    "class": ("class", "1"),
    "displacement": ("displacement relative to the norm of the features", "1"),
    "epsilon": ("radius of the ball around the start image", "image units"),
    "singular_value": ("singular value of the centred last-layer weights", "score/feature unit"),
    "rank_tolerance": ("singular value up to which it counts as zero", "score/feature unit"),
    "rank": ("rank of the centred last-layer weights", "1"),
    "adversarial_dimension": ("dimension of the adversarial directions", "1"),
    "published_bound": ("lower bound l - m of theorem 1", "1"),
    "adversarial_direction": ("orthonormal basis of the adversarial directions", "1"),
    "softmax_change": ("largest change of the softmax along an adversarial direction", "1"),
    "control_change": ("largest change of the softmax along a uniform direction", "1"),
    "rounding_bound": ("bound on the change that is rounding in float64", "1"),
    "feature_norm": ("Euclidean norm of the features", "feature units"),
    "prediction": ("class predicted at the clean image", "1"),
    "region_empty": ("class region without inner points", "1"),
    "region_unbounded": ("class region unbounded", "1"),
    "region_unbounded_visible": ("class region unbounded within the visible directions", "1"),
    "region_test": ("what decided the visible unboundedness", "1"),
    "parallel_cosine": ("largest |cos| between two boundaries", "1"),
    "parallel_classes": ("classes i, j and k, l of the most parallel boundaries", "1"),
    "coincident_boundaries": ("pairs of classes with the same weights, left out", "1"),
    "boundary_pairs": ("pairs of boundaries", "1"),
    "cosines_evaluated": ("cosines computed; the others are bounded", "1"),
    "angle_low": ("lower edge of the bin", "degree"),
    "angle_high": ("upper edge of the bin", "degree"),
    "angle_count": ("pairs of boundaries by angle", "1"),
    "angle_pairs": ("pairs of boundaries in the histogram", "1"),
    "angle_complete": ("whether the histogram is over all pairs", "1"),
    "hidden_share": ("share of DeepFool's squared feature change in adversarial directions", "1"),
    "noise_hidden_share": ("share of the squared feature change of equally long noise", "1"),
    "feature_change": ("norm of the feature change of the DeepFool perturbation", "feature units"),
    "perturbation_norm": ("Euclidean norm of the DeepFool perturbation", "image units"),
    "perturbation_converged": ("whether DeepFool changed the label", "1"),
    "mean_image_norm": ("mean Euclidean norm of the images", "image units"),
    "collision": ("features of the goal reached up to an adversarial direction", "1"),
    "collision_residual": (_RELATIVE, "1"),
    "collision_theta": ("feature distance to the goal in adversarial directions", "feature units"),
    "collision_label": ("class predicted at the best image", "1"),
    "collision_norm": ("distance of the best image to the start", "image units"),
    "collision_tolerance": (f"largest {_RELATIVE} that counts as a collision", "1"),
    "collision_clipped": ("whether images were kept inside the bounds", "1"),
    "pair_start": ("sample that is the start", "1"),
    "pair_goal": ("sample that is the goal", "1"),
    "start_image": ("image x", "image units"),
    "goal_image": ("image x' whose features are the goal", "image units"),
    "collision_image": ("best image x* within the radius", "image units"),
}


def describe(ds: xr.Dataset) -> xr.Dataset:
    """The dataset with `long_name` and `units` on every variable, and flags explained."""
    label_variables(ds, {str(name): _LABELS[str(name)] for name in ds.variables})
    ds["region_test"].attrs |= {
        "flag_values": list(range(len(TESTS))),
        "flag_meanings": " ".join(TESTS),
    }
    for name in ("parallel_cosine", "parallel_classes", "angle_count"):
        ds[name].attrs["relation"] = ", ".join(f"{i}: {r}" for i, r in enumerate(RELATIONS))
    return ds
