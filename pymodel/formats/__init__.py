"""Storage formats: how weights lie in memory before a decoder beside the array turns them into slots."""

FORMATS = ("plain", "xor")  # of rows of slots, as `--format` and FORMAT name them
