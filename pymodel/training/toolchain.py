"""The files that compiled training needs besides torch. This module does not import torch."""

from __future__ import annotations

import sysconfig
from pathlib import Path


def python_headers() -> Path:
    """The file that `torch.compile` needs. It is missing if Python was installed without its headers."""
    return Path(sysconfig.get_path("include")) / "Python.h"
