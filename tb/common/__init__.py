"""Pieces that every test bench shares: register table, streams, host, settings, seeds."""
