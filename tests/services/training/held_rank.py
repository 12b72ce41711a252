"""The real process of a group (`services.training.rank`), held still like `held_child`."""

from __future__ import annotations

import sys
from pathlib import Path

from services.training import rank
from tests.services.training.held_child import HOLD, hold_still

if __name__ == "__main__":
    hold_still(Path(sys.argv[1]) / HOLD)
    sys.exit(rank.main())
