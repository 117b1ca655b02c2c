"""Networks and data of the project: digits, CIFAR-10 and its ResNets, random networks."""
