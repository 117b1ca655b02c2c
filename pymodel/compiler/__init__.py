"""From an integer network to the image that runs it."""
