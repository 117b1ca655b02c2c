"""Training under a compression scheme, and training the kept networks again.

`TRAINERS` names the module of each network that `make train NET=name` can reproduce. Such a module needs
torch, so it is imported only when needed. Its `run(seed, path=None)` trains, writes the kept data (or `path`)
and returns the figures as a dict.
"""

from __future__ import annotations

TRAINERS = {"digits": "pymodel.training.train_digits", "systems": "pymodel.training.train_systems"}
