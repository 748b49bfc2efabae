"""What to cite for results: BibTeX of geomadv and of the papers whose experiments were run."""

from __future__ import annotations

from collections.abc import Iterable

from geomadv.results.provenance import program_version

_GEOMADV = """@software{geomadv,
  title = {geomadv: the geometry of neural networks' decision boundaries},
  author = {{The geomadv authors}},
  version = {VERSION},
  year = {2026}
}"""

# Experiments, and the paper that they follow; without experiments: all rest on it.
_PAPERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        (),
        """@inproceedings{moosavidezfooli2016deepfool,
  title = {{DeepFool}: a simple and accurate method to fool deep neural networks},
  author = {Moosavi-Dezfooli, Seyed-Mohsen and Fawzi, Alhussein and Frossard, Pascal},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year = {2016}
}""",
    ),
    (
        (
            *("normal_svd", "random_subspace_fooling", "universal", "label_graph"),
            *("norm_comparison", "transfer", "finetuning", "categories"),
        ),
        """@inproceedings{moosavidezfooli2017universal,
  title = {Universal adversarial perturbations},
  author = {Moosavi-Dezfooli, Seyed-Mohsen and Fawzi, Alhussein and Fawzi, Omar and
            Frossard, Pascal},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year = {2017}
}""",
    ),
    (
        (
            *("curvature", "score_curves", "direction_sweep", "subspace_accuracy"),
            *("first_order_twin", "confined_deepfool", "resampling", "norm_fractions"),
            "normal_section",
        ),
        """@inproceedings{jetley2018friends,
  title = {With Friends Like These, Who Needs Adversaries?},
  author = {Jetley, Saumya and Lord, Nicholas A. and Torr, Philip H. S.},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2018}
}""",
    ),
    (
        ("tilting_plane", "tilting_toy", "normal_tilt"),
        """@article{tanay2016boundary,
  title = {A Boundary Tilting Perspective on the Phenomenon of Adversarial Examples},
  author = {Tanay, Thomas and Griffin, Lewis},
  journal = {arXiv preprint arXiv:1608.07690},
  year = {2016}
}""",
    ),
    (
        ("softmax_directions",),
        """@misc{zou_geometric,
  title = {Geometric Universality of Adversarial Examples in Deep Learning},
  author = {Zou, Haosheng and Su, Hang and Pang, Tianyu and Zhu, Jun}
}""",
    ),
)


def bibtex(experiments: Iterable[str]) -> str:
    """BibTeX entries of what results of these experiments rest on."""
    names = {*experiments}
    used = [entry for of, entry in _PAPERS if not of or names & {*of}]
    return "\n\n".join([_GEOMADV.replace("VERSION", program_version()), *used])
