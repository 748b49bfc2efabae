"""`python -m geomadv`."""

import sys

from geomadv.cli import main

sys.exit(main())
