"""Networks in float and in integers, their quantisation, readers for torch modules and files, and the
reference that computes them.
"""
