"""Checkers: assertions on the interfaces and the inside of the machine in simulation, and the tests that must
make each of them fire.
"""
