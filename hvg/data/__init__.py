"""From clips to batches: sample order, signals, shards, and what was made ahead of training."""
