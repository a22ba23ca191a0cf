"""What the tests of the analyses share."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # for dense.py
