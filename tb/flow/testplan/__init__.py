"""The testplan:

`tb/testplan.yaml` checked against what there is, and the last results of its tests and coverpoints.
"""
