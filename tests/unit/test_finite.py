"""What is not finite is refused, with the name of the clip or the weight: 8 bits would make black of it, and a number of that."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import nn

from hvg.config.composition import compose
from hvg.core.checkpoint import Checkpoint, checkpoint_path
from hvg.core.errors import CheckpointError, HvgError
from hvg.core.finite import refuse_not_finite
from hvg.model.checkpoint_writing import Entry, write_checkpoint
from hvg.model.load import build_system
from hvg.parts.weights import load_shared_weights, load_weights
from hvg.score.measured_clips import score_dataset
from hvg.testing import tiny_batch
from hvg.values.scored_clip import scored_clips

BAD = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("value", BAD)
def test_the_clips_are_named(value):
    values = torch.zeros(3, 2, 2)
    refuse_not_finite(values, ("a", "b", "c"), "the frames")
    values[1, 0, 1] = values[2, 1, 0] = value
    with pytest.raises(HvgError, match="clip b, c: the frames are not finite"):
        refuse_not_finite(values, ("a", "b", "c"), "the frames")


@pytest.mark.parametrize("value", BAD)
def test_predictions_and_truth_are_not_scored(value):
    batch = tiny_batch(1, 2, 2)
    frames = torch.zeros_like(batch.frames)
    frames[0, 1, 1, 2, 3, 3] = value
    with pytest.raises(HvgError, match=f"clip {batch.clip_id[0]}: the predicted frames are not finite"):
        score_dataset(cast(Any, None), cast(Any, None), 1, lambda batch: frames, load=lambda index: batch)
    with pytest.raises(HvgError, match=f"clip {batch.clip_id[0]}: the true frames are not finite"):
        scored_clips(replace(batch, frames=frames), torch.zeros(frames.shape, dtype=torch.uint8))


def test_a_model_that_diverged_makes_no_picture(tiny):
    system, batch = build_system(compose([*tiny, "pose=skeleton"])).eval(), tiny_batch(1, 2, 2)
    with torch.no_grad():
        for parameter in system.backbone.parameters():
            parameter.fill_(1e30)
    with pytest.raises(HvgError, match=f"clip {batch.clip_id[0]}: the latents that the model makes are not finite"):
        system.generate(batch, num_steps=1)
    latents = system.codec.encode(batch.frames)
    latents[0, 0, 0, 0, 0, 0] = float("inf")
    with pytest.raises(HvgError, match=f"clip {batch.clip_id[0]}: the frames that the model makes are not finite"):
        list(system.decode(latents, None, batch.clip_id))


class Part(nn.Linear):
    """A layer with a table that is meant to be infinite."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.register_buffer("mask", torch.tensor([0.0, -float("inf")]))


@pytest.mark.parametrize("value", [*BAD, 1e30])
def test_weights_are_not_loaded(value):
    weights = {name: x.clone() for name, x in Part().state_dict().items()}
    load_weights(Part(), weights, "a.ckpt")
    weights["bias"][1] = value
    for load in (load_weights, load_shared_weights):
        with pytest.raises(CheckpointError, match=r"a\.ckpt: training had diverged: 1 of 2 weights .*, first bias"):
            load(Part(), weights, "a.ckpt")


@pytest.mark.parametrize("value", [*BAD, 1e30])
def test_weights_are_not_saved_and_the_checkpoint_before_stays(tmp_path, value):
    def save(step, value):
        weight, moment = torch.tensor([1.0, value]), torch.tensor([float("inf")])
        entries = [
            Entry("weights/w", weight.dtype, (2,), lambda: weight, learned=True),
            Entry.of("exp_avg_sq/w", moment),
            Entry.of("weights/mask", moment),
        ]
        write_checkpoint(checkpoint_path(tmp_path, step), {"global_step": step}, entries)

    save(1, 2.0)
    with pytest.raises(CheckpointError, match=r"step-0000002.* training has diverged, weights/w holds .*step-0000001"):
        save(2, value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000001.ckpt"]
    assert Checkpoint(checkpoint_path(tmp_path, 1)).tensor("weights/w").tolist() == [1.0, 2.0]
