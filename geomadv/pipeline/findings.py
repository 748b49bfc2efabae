"""What was found about a network, in a few plain sentences: the head of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from geomadv.claims import Verdict
from geomadv.labels import percent


@dataclass(frozen=True)
class Told:
    """A claim in words for readers who know none of the papers.

    Attributes:
        claim: its name.
        figure: that shows it.
        fact: what was measured, with {effect} and {null}; true whatever the answer.
        unit: of both numbers: a share of 1, or words behind the number.
        holds: what it means where the claim holds.
        fails: what it means where it does not, true of all contrasts up to the claim's threshold,
            which it names: near the threshold there is still a large difference from chance.
    """

    claim: str
    figure: str
    fact: str
    unit: Literal["share"] | str
    holds: str
    fails: str


@dataclass(frozen=True)
class Question:
    """A question that a report answers by the first claim that was measured.

    Attributes:
        words: the question.
        answers: claims, the most telling one first.
    """

    words: str
    answers: tuple[Told, ...]


_NORM = " image units"

QUESTIONS = (
    Question(
        "Is the network weak along directions that images share?",
        (
            Told(
                "subspace_fooling",
                "random_subspace_fooling",
                "Random vectors from the few directions that hold half of the boundary's normals "
                "change the label of {effect} of new images; uniform random vectors of the same "
                "norm change {null}.",
                "share",
                "The boundary is close along a few directions that images have in common.",
                "That is less than twice as often: the directions that the boundary's normals "
                "share are no marked weakness.",
            ),
            Told(
                "normals_alike",
                "normal_spectrum",
                "The boundary's normals are as alike as if they filled {effect} directions evenly; "
                "uniform ones fill {null}.",
                "",
                "The boundary faces the images from a few directions that they have in common.",
                "That is more than half as many: images have no few directions in common.",
            ),
        ),
    ),
    Question(
        "Does one perturbation fool most images?",
        (
            Told(
                "universal_norm",
                "norm_comparison",
                "One perturbation for all images fools half of new ones at a norm of {effect}; "
                "random vectors need {null}.",
                _NORM,
                "A single change, the same for all, breaks the network where noise of its size "
                "would not.",
                "It needs more than half the norm of noise: not the far smaller change that the "
                "paper reports.",
            ),
            Told(
                "held_out_rate",
                "universal",
                "One perturbation fools {effect} of new images, and {null} of those it was made "
                "from.",
                "share",
                "It works on images that it never saw.",
                "It fits the images that it was made from and loses more than 10 percentage points "
                "on others.",
            ),
        ),
    ),
    Question(
        "Which directions does the network read?",
        (
            Told(
                "flat_accuracy",
                "subspace_accuracy",
                "With only the flattest half of all directions left in the images the network is "
                "right on {effect}; with a random half on {null}.",
                "share",
                "It reads the directions along which its boundary curves far more than flat ones.",
                "Without the curved half it loses less than 25 percentage points more than without "
                "a random half.",
            ),
            Told(
                "positive_dimensions",
                "subspace_accuracy",
                "{effect} dimensions of most positive curvature keep 95 % of the accuracy; random "
                "subspaces need {null}.",
                "",
                "It reads few directions, and they are curved.",
                "That is more than half as many: not the few directions that the paper reports.",
            ),
            Told(
                "leading_accuracy",
                "first_order_twin",
                "Over all numbers of directions, images along the leading directions of its "
                "perturbations keep an accuracy of {effect} on average; in random order {null}.",
                "share",
                "It reads the directions along which it is fooled.",
                "The directions along which it is fooled gain less than 10 percentage points over "
                "random ones.",
            ),
        ),
    ),
    Question(
        "Are these the directions along which it is attacked?",
        (
            Told(
                "leading_confined",
                "confined_deepfool",
                "A perturbation that has to stay in the leading directions of all perturbations "
                "needs a norm of {effect}; in random directions, equally many, {null}.",
                _NORM,
                "Attacks find a far shorter way in these directions than in others.",
                "That is more than half of it: these directions are no far shorter way.",
            ),
            Told(
                "curved_norm",
                "norm_fractions",
                "{effect} of the perturbations' squared norm lies in the most curved directions; "
                "chance would put {null} there, their share of all.",
                "share",
                "Attacks go along the directions in which the boundary curves.",
                "That is less than twice as much: no marked preference for the directions in which "
                "the boundary curves.",
            ),
        ),
    ),
    Question(
        "Do the most curved directions lead into a class either way?",
        (
            Told(
                "positive_enters",
                "direction_sweep",
                "A long step along a class's most positively curved direction brings {effect} of "
                "other images into the class, counted at the worse one of both ends; along a "
                "random direction {null}.",
                "share",
                "For these images such a direction is a switch: it sets the class, whatever "
                "the sign of the step.",
                "At least one of the two ways brings in less than 25 percentage points more than "
                "chance: the direction is no switch that works either way, unlike in the paper's "
                "networks.",
            ),
            Told(
                "negative_leaves",
                "direction_sweep",
                "A long step along a class's most negatively curved direction takes {effect} of "
                "its images out of the class, counted at the worse one of both ends; along a "
                "random direction {null}.",
                "share",
                "Such a direction leads out of the class either way.",
                "At least one of the two ways takes out less than 25 percentage points more than "
                "chance.",
            ),
        ),
    ),
)


@dataclass(frozen=True)
class Finding:
    """An answer for one network.

    Attributes:
        question: what was asked.
        told: the words of the claim that answers it.
        verdict: the network's.
        sentence: what was measured, or why nothing was.
        meaning: what follows from it; "" where nothing does.
    """

    question: str
    told: Told
    verdict: Verdict
    sentence: str
    meaning: str


def findings(verdicts: Mapping[str, Verdict]) -> list[Finding]:
    """One answer to each question, from the first of its claims that was measured.

    Args:
        verdicts: of a network, by the claim's name.
    """
    found = []
    for question in QUESTIONS:
        measured = [t for t in question.answers if verdicts[t.claim].answer != "not measured"]
        found.append(finding(question, (measured or [*question.answers])[0], verdicts))
    return found


def finding(question: Question, told: Told, verdicts: Mapping[str, Verdict]) -> Finding:
    """What a network's verdict on one of the question's claims says."""
    verdict = verdicts[told.claim]
    meanings = {
        "holds": told.holds,
        "does not hold": told.fails,
        "undecided": "These images cannot tell: the interval reaches to both sides of what the "
        "claim asks for.",
        "not measured": "",
    }
    if verdict.answer == "not measured":
        sentence = f"Not measured: {verdict.note}."
    else:
        # Where the result ends before one of the numbers, it is a bound (`Measured.bound`).
        effect, null = (
            quantity(number, told.unit) + " or more" * (verdict.bound == bound)
            for number, bound in ((verdict.effect, "at least"), (verdict.null, "at most"))
        )
        sentence = told.fact.format(effect=effect, null=null)
        sentence = sentence[0].upper() + sentence[1:]
    return Finding(question.words, told, verdict, sentence, meanings[verdict.answer])


def quantity(value: float, unit: str) -> str:
    """A number as a reader expects it: per cent of a share, else three digits with its unit."""
    if math.isnan(value):
        return "–"
    if unit == "share":
        return f"{percent(value)} %"
    return f"{value:.3g}{unit}"
