"""Checkers: simulation assertions on the interfaces and the inside of the machine, and the tests that must
make each of them fire.
"""
