"""The machine as a program sees it: its sizes, memories, program records and image file, and a model that
runs an image cycle by cycle.
"""
