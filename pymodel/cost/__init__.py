"""The costs of an image: cycles, accesses and bits, and the energy that they take."""
