"""`python -m nacre` is the command line."""

import sys

from nacre.cli.main import main

sys.exit(main())
