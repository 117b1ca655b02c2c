"""Coverage of the tests: functional points on the state of the model, code coverage of the RTL, and the
report of both.
"""
