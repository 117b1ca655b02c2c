"""The cocotb environment: the runner, the list of tests, shared pieces, and one folder of test modules per
design under test.
"""
