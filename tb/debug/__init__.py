"""Finding a fault: the data that a failed run leaves, its replay with the inside of the machine visible, and
the first value that is wrong.
"""
