"""Finding a fault: what a failed run leaves behind, its replay with the inside of the machine visible, and
the first value that is wrong.
"""
