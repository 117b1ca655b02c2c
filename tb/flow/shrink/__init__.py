"""Failures made small: `search.py` looks for the smallest network that still fails, `reductions.py` has the
steps, `bench.py` does it with the failures of planted bugs.
"""
