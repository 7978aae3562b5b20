"""Exit with an error if any of the modules named as arguments can be imported here."""

from __future__ import annotations

import importlib.util
import sys

found = [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
if found:
    sys.exit(f"{', '.join(found)} can be imported, but this environment must not hold it")
