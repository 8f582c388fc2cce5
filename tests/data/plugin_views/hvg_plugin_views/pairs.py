"""Views that look from opposite sides are denoised together, two by two."""

import torch
from pydantic import Field

from hvg.plugin import PartConfig, Sampler, Window


class Pairs(Sampler):
    """Windows of two views half the views apart, each of all frames; of an odd number, every view is in two of them."""

    class Config(PartConfig):
        together: int = Field(0, ge=0, description="Steps at the start that denoise all views together.")

    def windows(self, step, num_steps, views, frames):
        if step < self.config.together:
            groups = [tuple(range(views))]
        else:
            groups = sorted({tuple(sorted({view, (view + views // 2) % views})) for view in range(views)})
        return [Window(group, tuple(range(frames)), torch.ones(len(group), frames)) for group in groups]
