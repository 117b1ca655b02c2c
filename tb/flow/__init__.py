"""What drives simulations from outside: building, running, regressions, failures, coverage, bugs, the
testplan.
"""
