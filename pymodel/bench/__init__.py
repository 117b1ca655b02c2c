"""Benchmarks that measure published figures again. Each prints a table and returns the numbers in it."""
