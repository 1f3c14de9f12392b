"""`python -m kvip` is the `kvip` command."""

import sys

from kvip.cli.main import main

sys.exit(main())
