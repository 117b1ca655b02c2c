"""Benchmarks: published figures measured again, each with the table it prints and the numbers it returns."""
