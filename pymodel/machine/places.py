"""The folder of the checkout, and the folder below which everything is written."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD") or ROOT / "build").absolute()  # BUILD=folder puts it elsewhere
