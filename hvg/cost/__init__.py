"""Cost of a training step, estimated before it is taken."""
