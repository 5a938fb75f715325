"""`python -m edgemesh` is the command `edgemesh`."""

import sys

from edgemesh.cli import main

sys.exit(main())
