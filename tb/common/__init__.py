"""Code that every test bench shares: settings, seeds, words of memories, the bench of one block."""
