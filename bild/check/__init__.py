"""The check of a GPU: is what runs there right, and as fast as it should be? Ten minutes, and no hub."""
