"""Claims of the literature as inequalities that a network's results answer."""

from geomadv.claims.claim import Answer, Claim, Measured, NotMeasured, Resamples, Verdict, judge
from geomadv.claims.friends import FRIENDS
from geomadv.claims.linear import LINEAR
from geomadv.claims.universal import UNIVERSAL
from geomadv.doors import guarded

CLAIMS: tuple[Claim, ...] = (*FRIENDS, *UNIVERSAL, *LINEAR)

__all__ = ["CLAIMS", "Answer", "Claim", "Measured", "NotMeasured", "Resamples", "Verdict", "judge"]

globals().update(guarded({"judge": judge}))
