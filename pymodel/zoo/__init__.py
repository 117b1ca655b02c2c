"""Networks and data that the project brings or knows: digits, CIFAR-10 and its ResNets, networks drawn at
random.
"""
