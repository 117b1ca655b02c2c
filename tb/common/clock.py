"""The clock of every simulation."""

PERIOD_NS = 10
