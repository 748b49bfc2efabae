"""The words of reports, figures and the documentation, each in a sentence or two."""

from __future__ import annotations

GLOSSARY = {
    "boundary point": "A point where the network's two best scores are equal, reached from an "
    "image; the median distance to it tells how far images are from another label.",
    "boundary normal, normal": "The unit vector perpendicular to the boundary at a boundary point, "
    "pointing into the class beyond it: the direction in which a step changes most.",
    "claim": "A sentence of a paper as an inequality between effect and null. It holds, or does "
    "not, where the whole 95 % interval lies on one side of the threshold; else it is undecided.",
    "effect": "The number of the network that a claim is about.",
    "null": "The same number where the paper's idea plays no part: for random directions, "
    "subspaces, perturbations or labels.",
    "95 % interval": "Where effect over null, or effect minus null, lies when images, draws or "
    "points are resampled (bootstrap).",
    "fooling rate": "Share of images whose predicted label a perturbation changes.",
    "held-out images": "Images that took no part in making what is tried on them; the two sets "
    "have none in common, by content.",
    "image units": "Norms are Euclidean, over all pixels and channels, in the scale of the "
    "pixels as given (mostly 0 to 1), before any normalisation.",
    "DeepFool": "An attack that walks to the nearest boundary as the network's linear "
    "approximation sees it, step by step; its perturbations are short, not proven shortest.",
    "perturbation": "A change that is added to an image; adversarial if it changes the label.",
    "universal perturbation": "One vector that, added to any image, changes most labels.",
    "principal curvature, curvature": "How fast the boundary bends along a direction. Positive: "
    "from the boundary a step either way leads into the class; negative: out of it.",
    "mean Hessian": "Second derivatives of the difference of two scores, averaged over boundary "
    "points of a class; its eigenvectors are the curved directions.",
    "shape operator": "The Hessian along the boundary alone, divided by the length of the "
    "gradient: curvature in one over image units, whatever the scale of the scores.",
    "singular value": "How much of all vectors of a set lies along one of its leading directions.",
    "S_pos, S_neg, S_flat": "Subspaces of the d directions per class of most positive, most "
    "negative and least curvature.",
    "S_hi, S_lo": "Subspaces of the leading and of the trailing singular vectors of "
    "perturbations or normals.",
    "residual": "How far a computed direction is from being an eigenvector: 0 exactly one, above "
    "1 none.",
    "confined": "Made to stay in a subspace: every step is projected on it.",
    "image PCA": "The principal components of the images themselves, a comparison that needs no "
    "network.",
    "effective rank": "How many directions singular values fill: the exponential of the entropy "
    "of their squared shares.",
    "deviation angle": "Angle between the weight of a linear classifier and the line from class "
    "mean to class mean: how far its boundary has tilted.",
    "adversarial direction": "A direction of the last layer's features along which the softmax "
    "does not change at all.",
    "angle of a boundary point": "Between the way from the image to the point and the normal "
    "there; 0 at a nearest point.",
    "boundary function": "f, the score of the target class minus the score of the class it meets: "
    "negative at the image, 0 on the boundary.",
    "class's region": "All images that get the class. Its boundary is where the class meets the "
    "best of all others.",
    "pair's boundary": "Where two given classes have equal scores, whether or not a third is on "
    "top.",
    "target class, source class": "The class across the boundary; the class that the network "
    "predicts at the image.",
    "converged": "Of a walk: the label changed. Of an eigenpair: its residual is below the "
    "tolerance. Of a linear classifier: its angle is right to 0.1°.",
    "dimension D": "How many numbers an image has: channels times height times width.",
    "Hessian-vector product": "The Hessian of f times a vector, without the matrix: exact, by "
    "finite differences, or of a smoothed network.",
    "step h": "The distance over which a finite difference looks; to be compared with the "
    "boundary's distance.",
    "piecewise linear": "A network (ReLU, max-pooling) whose exact Hessian is 0 almost everywhere.",
    "sharedness": "How far two halves of the points, or single points, agree with the mean.",
    "pass of the network": "One gradient of one image, the unit of `geomadv plan`; a forward pass "
    "is a third.",
    "stale": "Of a result: its network, images or inputs have changed since. It is refused "
    "without `--refresh`.",
    "subspace": "The span of some directions, with an orthonormal basis.",
}
