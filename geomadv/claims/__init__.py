"""Claims of the literature as inequalities that a network's results answer."""

from geomadv.claims.claim import Claim, Measured, NotMeasured, Verdict, judge
from geomadv.claims.friends import FRIENDS
from geomadv.claims.linear import LINEAR
from geomadv.claims.universal import UNIVERSAL

CLAIMS: tuple[Claim, ...] = (*FRIENDS, *UNIVERSAL, *LINEAR)

__all__ = ["CLAIMS", "Claim", "Measured", "NotMeasured", "Verdict", "judge"]
