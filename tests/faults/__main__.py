"""`make faults`: damages everything that is read, thousands of times; counts what came of it."""

import argparse
import os
import tempfile
from collections import Counter

from faults.harness import counted
from faults.study import make, prepare
from faults.subjects import SUBJECTS

from geomadv.pipeline import EXPERIMENTS

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--count", type=int, default=450, help="mutants of each fast reader")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--only", nargs="*", default=list(SUBJECTS))
arguments = parser.parse_args()
cache = tempfile.TemporaryDirectory()
os.environ["GEOMADV_CACHE"] = cache.name
if any(SUBJECTS[name].make is make for name in arguments.only):
    prepare([e.name for e in EXPERIMENTS])
total, faults = Counter[str](), []
for name in arguments.only:
    found, wrong = counted(name, arguments.seed, round(arguments.count * SUBJECTS[name].share))
    print(f"{name:16}", ", ".join(f"{word} {n}" for word, n in sorted(found.items())), flush=True)
    total += found
    faults += wrong
print("\n".join(faults))
print(f"\n{total.total():,} attempts:", ", ".join(f"{w} {n}" for w, n in sorted(total.items())))
raise SystemExit(bool(faults))
