"""How a training step grows with views, frames, pixels, parameters and GPUs: on shapes, beside what was measured."""
