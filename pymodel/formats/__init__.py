"""Storage formats: how weights lie in memory before a decoder beside the array turns them into slots."""
