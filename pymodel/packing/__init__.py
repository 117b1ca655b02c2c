"""From a sparse matrix to lanes: permutation, packing without loss, and the plan that a scheme makes for a
layer.
"""
