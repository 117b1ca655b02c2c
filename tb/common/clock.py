"""The clock of every simulation."""

PERIOD_NS = 10
CLOCK_HZ = 1e9 / PERIOD_NS
