"""The integration suite imports its own modules from its folder, and the readers of the source from docs/."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent / "docs")]
