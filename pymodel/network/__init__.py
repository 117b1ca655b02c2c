"""Networks: in float, in integers, quantised, read from torch and from files; and the reference that says
what they compute.
"""
