"""What an image costs: cycles, accesses and bits, and the energy they take."""
