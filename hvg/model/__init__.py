"""The system and its steps: training step, sampling engine, checkpoints, and a checkpoint as a system again."""
