"""Golden model of the Tatami array: prune, permute, pack, and predict what the RTL does."""
