"""A clip that cannot be read fills its place without a share in the loss; a step that is left out changes nothing."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from hvg.core.errors import DataError
from hvg.data.signals import NO_SIGNALS
from hvg.data.step_order import clip_position
from hvg.data.training_data import ClipDataModule, TrainingOrder
from hvg.data.unreadable import MOST_IN_A_ROW, read_or_replace
from hvg.model.ema import Averaging
from hvg.model.system import HumanVideoSystem
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.scene import Dataset
from hvg.testing import build, tiny_batch, tiny_context
from hvg.values.buckets import Bucket, alike
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning

COUNT = 4
SLOTS = {"pose": "skeleton", "reference_keys": "reference_tokens", "camera": "camera_rotation"}


class Clips(Dataset):
    """Clips of two views and three frames, told apart by their names; reading some of them fails."""

    def __init__(self, failing: dict[int, Exception]) -> None:
        self.failing, self.reads = failing, []

    def __len__(self) -> int:
        return COUNT

    def load(self, index: int) -> ClipBatch:
        self.reads.append(index)
        if index in self.failing:
            raise self.failing[index]
        clip = tiny_batch(1, 2, 3, seed=index)
        return replace(clip, clip_id=(f"clip{index}",), subject=(f"clip{index}",), valid=None)


def order(clips: Dataset) -> TrainingOrder:
    return TrainingOrder(clips, NO_SIGNALS, seed=0, groups=alike(len(clips), Bucket(2, 2)), clips_per_step=1)


def test_another_clip_fills_the_place_of_one_that_cannot_be_read_and_is_nowhere_valid():
    clips = Clips({1: DataError("shard.tar: clip 'b' cannot be decoded"), 2: DataError("nor this")})
    places = [clip_position(0, position, COUNT) for position in range(2 * COUNT)]
    found = [order(clips)[position] for position in range(2 * COUNT)]
    for position, (index, clip) in enumerate(zip(places, found, strict=True)):
        expected = {1: "shard.tar: clip 'b' cannot be decoded", 2: "nor this"}.get(index, "")
        assert clip.unreadable == (expected,)
        assert clip.clip_id == (f"clip{3 if expected else index}",)
        assert clip.valid is not None and clip.valid.shape == (1, 2, 2) and clip.valid.dtype == torch.bool
        assert bool(clip.valid.all()) is not bool(expected) and bool(clip.valid.any()) is not bool(expected)
        assert clip.sample_index is not None and clip.sample_index.tolist() == [position]
    both = ClipBatch.stack(found[:COUNT])
    assert both.unreadable is not None and sorted(both.unreadable) == [
        "",
        "",
        "nor this",
        found[places.index(1)].unreadable[0],
    ]
    assert both.clips(slice(1, 3)).unreadable == both.unreadable[1:3]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_fills_a_place_depends_on_the_place_alone(workers):
    clips = Clips({1: DataError("unreadable")})
    order = partial(TrainingOrder, clips, NO_SIGNALS, seed=0, groups=alike(len(clips), Bucket(1, 2)))
    settings = {"batch_size": 2, "num_steps": 6, "workers": workers}
    whole, late = (ClipDataModule(order, **settings, first_step=first).train_dataloader() for first in (0, 3))
    batches = list(whole)
    assert any(any(batch.unreadable) for batch in batches[:3]) and any(any(batch.unreadable) for batch in batches[3:])
    for batch, other in zip(batches[3:], late, strict=True):
        assert batch.clip_id == other.clip_id and batch.unreadable == other.unreadable
        assert torch.equal(batch.frames, other.frames) and torch.equal(batch.valid, other.valid)


def test_a_file_system_that_fails_for_a_moment_is_asked_again():
    answers = iter([OSError(5, "Input/output error"), OSError(5, "Input/output error"), tiny_batch(1)])

    def read(index: int) -> ClipBatch:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    clip, reason = read_or_replace(read, 0, COUNT, pauses=(0.0, 0.0))
    assert reason == "" and clip.clip_id == ("clip0",)

    lasting = Clips({0: OSError(5, "Input/output error"), 1: FileNotFoundError(2, "No such file", "a.tar")})
    clip, reason = read_or_replace(lasting.load, 0, COUNT, pauses=(0.0, 0.0))
    assert clip.clip_id == ("clip2",) and reason == "OSError: [Errno 5] Input/output error"
    assert lasting.reads == [0, 0, 0, 1, 2], "a file that is not there does not come back"


def test_where_nothing_can_be_read_the_search_ends():
    clips = Clips({index: DataError(f"reason {index}") for index in range(COUNT)})
    with pytest.raises(DataError, match="4 of 4 clips, those from clip 2 on, cannot be read; the first: reason 2"):
        read_or_replace(clips.load, 2, COUNT)
    reads = []

    def fail(index: int) -> ClipBatch:
        reads.append(index)
        raise DataError("no")

    with pytest.raises(DataError, match=f"{MOST_IN_A_ROW} of 100000 clips"):
        read_or_replace(fail, 99_990, 100_000)
    assert reads == [*range(99_990, 100_000), *range(MOST_IN_A_ROW - 10)]


def test_other_errors_are_not_taken_for_a_clip_that_cannot_be_read():
    with pytest.raises(ZeroDivisionError):
        read_or_replace(Clips({0: ZeroDivisionError()}).load, 0, COUNT)


class WithAuxiliaryLoss(HumanVideoSystem):
    """Adds the mean brightness of a clip's frames to its loss, through a weight that is trained."""

    def condition(self, batch: ClipBatch, keep=None) -> Conditioning:
        weight = next(self.parameters()).flatten()[0]
        return replace(
            super().condition(batch, keep), losses={"auxiliary": weight * batch.frames.flatten(1).mean(dim=1)}
        )


@pytest.fixture(scope="module")
def system() -> HumanVideoSystem:
    context = tiny_context()

    def default(kind: str, name: str):
        part = registry.load(kind, name)
        return part(part.Config(), Context())

    def conditioner(name: str):
        part = registry.load("conditioner", name)
        return build(part, part.Config(), context)

    return WithAuxiliaryLoss(
        alignment=default("alignment", "none"),
        backbone=context.backbone,
        conditioners={slot: conditioner(name) for slot, name in SLOTS.items()},
        codec=context.codec,
        prediction=default("prediction", "x0"),
        sampler=default("sampler", "single"),
        solver=default("solver", "euler"),
        guidance=default("guidance", "constant"),
        signal_keys=SLOTS,
        seed=0,
        foreground_weight=2.0,
    )


def gradient(system: HumanVideoSystem, batch: ClipBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    system.zero_grad()
    loss = system.training_step(batch, 0)["loss"]
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in system.named_parameters() if p.grad is not None}


def test_what_fills_a_place_has_no_share_in_the_loss_and_the_gradient(system):
    """To the last bit it does not matter what fills; the others count as much as in the whole batch they are part of."""
    good = replace(tiny_batch(3, seed=1), sample_index=torch.arange(3), valid=torch.ones(3, 2, 2, dtype=torch.bool))

    def filled(seed: int) -> ClipBatch:
        other = replace(
            tiny_batch(1, seed=seed), sample_index=torch.tensor([3]), valid=torch.zeros(1, 2, 2, dtype=torch.bool)
        )
        return ClipBatch.stack([good, other])

    loss, gradients = gradient(system, filled(2))
    again, others = gradient(system, filled(3))
    assert torch.equal(loss, again)
    assert gradients.keys() == others.keys() and all(torch.equal(x, others[name]) for name, x in gradients.items())
    alone, expected = gradient(system, good)
    assert float(loss) == pytest.approx(float(alone) * 3 / 4, rel=1e-5)
    assert max(float(x.abs().max()) for x in expected.values()) > 1e-3
    for name, x in expected.items():
        assert torch.allclose(gradients[name], x * 3 / 4, rtol=1e-4, atol=1e-6), name
    whole, _ = gradient(system, ClipBatch.stack([good, replace(filled(2).clips(slice(3, 4)), valid=good.valid[:1])]))
    assert float(whole) > float(loss)


def test_a_step_that_is_left_out_changes_neither_weights_nor_what_the_optimiser_knows():
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    part = registry.load("optimizer", "adamw_fused")
    optimizer = Averaging(part(part.Config(weight_decay=0.5)), [{"params": [weight]}], 0.1, decay=0.9)

    def closure() -> torch.Tensor:
        weight.grad = None
        loss = (weight**2).sum()
        loss.backward()
        return loss

    def state() -> list[torch.Tensor]:
        return [weight.detach().clone(), *(value.clone() for value in optimizer.state[weight].values())]

    optimizer.step(closure)
    before = state()
    assert len(before) == 5
    optimizer.leave_out = True
    assert torch.equal(optimizer.step(closure), (weight**2).sum())
    assert all(torch.equal(a, b) for a, b in zip(before, state(), strict=True))
    optimizer.leave_out = False
    optimizer.step(closure)
    assert not any(torch.equal(a, b) for a, b in zip(before, state(), strict=True))
