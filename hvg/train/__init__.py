"""A run: Lightning's Trainer, callbacks, faults, strategies, throughput."""
