"""Clips for training and evaluation: order, views, rendered signals and their cache.

Sample order is a function of (seed, epoch, position) alone, so it does not depend on workers, ranks or interruptions.
"""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import lightning
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from hvg.core.errors import HvgError
from hvg.core.random_keys import generator
from hvg.data.driving import changed_driving, refuse_copies
from hvg.data.signals import Signals
from hvg.data.step_order import place_at
from hvg.data.unreadable import read_or_replace
from hvg.parts.scene import Dataset as ClipDataset
from hvg.values.buckets import Bucket, Group, Picture
from hvg.values.clip import ClipBatch, Within
from hvg.values.packed import unpacked
from hvg.values.tensors import tensors_of

# Decoded clips that a loading process keeps: all of a small dataset, such as the 192 people of scale=cpu.
KEPT_BYTES = 2**30


def recolour(
    clip: ClipBatch, draw: torch.Generator, photo_colours: Mapping[str, tuple[int, int, int, int]] | None = None
) -> ClipBatch:
    """The clip (B = 1) in other colours, frames and photo alike: RGB permuted, and a gamma for each channel.

    White and black stay what they are. A model that saw few outfits learns from it to copy colours, not to recall them.
    photo_colours: control map's key -> its channels with colours of the photo (``Conditioner.photo_colours``), which change, too.
    """
    order, gammas = torch.randperm(3, generator=draw), 2 ** (2 * torch.rand(3, 1, 1, generator=draw) - 1)

    def change(frames: torch.Tensor) -> torch.Tensor:
        return ((frames[..., order, :, :] + 1) / 2).clamp(0, 1) ** gammas * 2 - 1

    reference = clip.reference and replace(clip.reference, frames=change(clip.reference.frames))
    frames = None if clip.frames is None else change(clip.frames)
    shown = {key: channels for key, channels in (photo_colours or {}).items() if key in clip.signals}
    maps = {key: _with_colours(clip.signals[key], channels, change) for key, channels in shown.items()}
    return replace(clip, frames=frames, reference=reference, signals={**clip.signals, **maps})


def _with_colours(
    signal: torch.Tensor, channels: tuple[int, int, int, int], change: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """A control map whose colours, ``channels`` of red, green and blue times the last of them, are changed."""
    *rgb, alpha = channels
    cover = signal[..., [alpha], :, :]
    # Where nobody is, the colour is 0, and stays it.
    colours = signal[..., rgb, :, :] / cover.clamp_min(torch.finfo(cover.dtype).tiny)
    changed = signal.clone()
    changed[..., rgb, :, :] = change(colours.clamp(-1, 1)) * cover
    return changed


class TrainingOrder(Dataset):
    """Position in the training order -> clip, with the views and frames that a step at that position sees, at its size.

    groups: the clips by the shapes that they are drawn for. clips_per_step: positions, over all ranks and the batches that a
    step accumulates, that share a step and so a shape. first_view: as ``DataConfig`` says. driving: how strongly driving
    videos are changed, as of ``changed_driving``; nothing for not at all. copies: whether one may be the target itself. A clip
    that cannot be read has another in its place that is nowhere valid, and so has no share in the loss;
    ``ClipBatch.unreadable`` says why.
    """

    def __init__(
        self,
        clips: ClipDataset,
        signals: Signals,
        *,
        seed: int,
        groups: Sequence[Group],
        clips_per_step: int,
        recolour: float = 0.0,
        first_view: Within = "grid",
        driving: Mapping[str, float] | None = None,
        copies: bool = False,
    ) -> None:
        self._clips, self._signals, self._first_view = clips, signals, first_view
        self._seed, self._groups, self._clips_per_step, self._recolour = seed, groups, clips_per_step, recolour
        self._driving, self._copies = driving or {}, copies
        self._kept: dict[tuple[int, tuple[int, int] | None], ClipBatch] = {}
        self._kept_bytes = 0
        self._in_parts: bool | None = None

    def __getitem__(self, position: int) -> ClipBatch:
        clips, index, bucket = place_at(self._seed, self._groups, position, self._clips_per_step)
        choose = DrawnCells(self._seed, position, bucket)
        part, unreadable = read_or_replace(lambda i: self._part(clips[i], choose, bucket.size), index, len(clips))
        if self._first_view == "window":
            part = replace(part, origin=None)
        if not self._copies:
            refuse_copies(part)
        if any(self._driving.values()) and part.driving is not None:
            part = changed_driving(unpacked(part), generator(self._seed, "driving", position), **self._driving)
        if float(torch.rand((), generator=choose.generator)) < self._recolour:
            part = recolour(unpacked(part), choose.generator, self._signals.photo_colours)
        # Maps that depend on what is drawn together: now it is known.
        part = self._signals.draw(part)
        valid = torch.ones(part.grid, dtype=torch.bool) if part.valid is None else part.valid
        valid = torch.zeros_like(valid) if unreadable else valid
        count, place = int(valid.sum()), torch.tensor([position])
        return replace(part, valid=valid, num_valid=(count,), sample_index=place, unreadable=(unreadable,))

    def _part(self, index: int, choose: "DrawnCells", size: Picture | None) -> ClipBatch:
        """The drawn views and frames of a clip: read alone, unless all of a small dataset is decoded once and kept."""
        if self._in_parts is not False:
            part = self._at_size(size).load_part(index, choose, frozenset(self._signals.ahead))
            if self._in_parts is None:
                self._in_parts = part is not None and self._whole_bytes(part, choose.share) > KEPT_BYTES
            if part is not None and self._in_parts:
                return self._signals.draw_ahead(part)
        clip = self._clip(index, size)
        return clip.select(*choose(*clip.grid[1:]))

    def _clip(self, index: int, size: Picture | None) -> ClipBatch:
        """A whole clip at a size, kept as long as there is room."""
        if (index, size) in self._kept:
            return self._kept[index, size]
        clip = self._signals.load(self._at_size(size), index)
        taken = clip.nbytes()
        if self._kept_bytes + taken <= KEPT_BYTES:
            self._kept[index, size] = clip
            self._kept_bytes += taken
        return clip

    def _at_size(self, size: Picture | None) -> ClipDataset:
        """The clips with pictures of a size; None: as they are."""
        return self._clips if size is None else self._clips.at_size(size, self._signals.codes)

    def _whole_bytes(self, part: ClipBatch, share: float) -> float:
        """Bytes that all clips would take if they were kept. share: a clip's cells to a cell of the part."""
        return unpacked(part).nbytes() * share * len(self._clips)


def together(parts: Sequence[ClipBatch]) -> ClipBatch:
    """A batch of these clips, in 8 bits where all are: one that was recoloured is not."""
    kinds = {tuple(x.dtype for x in tensors_of(part)) for part in parts}
    return ClipBatch.stack(parts if len(kinds) == 1 else [unpacked(part) for part in parts])


class DrawnCells:
    """Random choice of the views and frames that a position of the training order sees, for a clip of any size.

    After a call: generator, for what is drawn next at this position; share, the clip's cells to a cell that is seen.
    """

    def __init__(self, seed: int, position: int, bucket: Bucket) -> None:
        self._seed, self._position, self._bucket = seed, position, bucket

    def __call__(self, num_views: int, num_frames: int) -> tuple[list[int], range]:
        """Views and frames of a clip of ``num_views`` x ``num_frames``. Raises: HvgError where it holds fewer."""
        views, frames = self._bucket.views, self._bucket.frames
        if views > num_views or frames > num_frames:
            raise HvgError(
                f"a step draws {views} views x {frames} frames of a clip (data.views, data.frames, data.buckets), but at "
                f"position {self._position} of the training order is one of {num_views} x {num_frames}"
            )
        self.generator = generator(self._seed, "grid", self._position)
        self.share = num_views * num_frames / (views * frames)
        drawn = torch.randperm(num_views, generator=self.generator)[:views].sort().values
        start = int(torch.randint(num_frames - frames + 1, (1,), generator=self.generator))
        return drawn.tolist(), range(start, start + frames)


class ClipDataModule(lightning.LightningDataModule):
    """Batches in the training order.

    order: gives the ``TrainingOrder`` for a number of ``clips_per_step``. first_step: where a resumed run continues in it.
    accumulate: batches of a step. behind: steps of the order that an earlier stage has taken.
    """

    def __init__(
        self,
        order: Callable[..., TrainingOrder],
        *,
        batch_size: int,
        num_steps: int,
        workers: int,
        first_step: int = 0,
        accumulate: int = 1,
        behind: int = 0,
    ) -> None:
        super().__init__()
        self.behind = behind
        self.order, self.batch_size, self.num_steps, self.workers = order, batch_size, num_steps, workers
        self.first_step, self.accumulate = first_step, accumulate

    def train_dataloader(self) -> DataLoader:
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(
            self.order(clips_per_step=self.batch_size * world * self.accumulate),
            batch_sampler=StepPositions(
                self.first_step * self.accumulate,
                self.num_steps * self.accumulate,
                self.batch_size,
                rank,
                world,
                self.behind * self.accumulate,
            ),
            num_workers=self.workers,
            worker_init_fn=_leave_signals,
            collate_fn=together,
            persistent_workers=self.workers > 0,
            # From other memory, copying to a GPU would wait for its queue of work.
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        )

    def transfer_batch_to_device(self, batch: ClipBatch, device: torch.device, dataloader_idx: int) -> ClipBatch:
        """The loader has pinned it, so that nothing waits; floats are made where they are used, and copied nowhere."""
        return unpacked(batch.to(device, non_blocking=True))


def _leave_signals(worker: int) -> None:
    """Signals are for the process that trains: it finishes its step, for which it needs those that load, and ends them then."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class StepPositions(Sampler[list[int]]):
    """Positions in the training order that a rank reads, batch by batch from ``first_step`` on.

    Ranks take consecutive blocks. (Where a step accumulates batches, each counts as one here.) The length counts the steps
    before ``first_step`` too: Lightning's loop goes on counting where it was interrupted, and would otherwise take the rest
    of the run for a second epoch. behind: steps of the order that these follow.
    """

    def __init__(
        self, first_step: int, num_steps: int, batch_size: int, rank: int, world: int, behind: int = 0
    ) -> None:
        self._first_step, self._num_steps, self._batch_size = first_step, num_steps, batch_size
        self._rank, self._world, self._behind = rank, world, behind

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self._first_step, self._num_steps):
            start = ((self._behind + step) * self._world + self._rank) * self._batch_size
            yield list(range(start, start + self._batch_size))

    def __len__(self) -> int:
        return self._num_steps
