"""How batches are made: threads, processes, shared memory and the cache of decoded photos."""
