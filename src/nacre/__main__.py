"""`python -m nacre` is the command line."""

import sys

from nacre.cli import main

sys.exit(main())
