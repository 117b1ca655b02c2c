"""The plain harness: a host with streams and registers, and the comparison with the model."""
