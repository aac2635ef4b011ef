"""`python -m brenier` is the `brenier` command."""

import sys

from brenier.cli import main

sys.exit(main())
