"""`python -m halfopen`."""

import sys

from halfopen.command import main

sys.exit(main())
