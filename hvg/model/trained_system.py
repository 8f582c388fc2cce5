"""What a run, an evaluation and a sample ask of a system, whatever it trains."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Required, Self, TypedDict, Unpack

import torch
from torch import Tensor, nn

from hvg.config.settings import RunConfig
from hvg.data.cache import clips_at_own_size
from hvg.data.signals import NO_SIGNALS, Signals
from hvg.parts.optimizer import Group
from hvg.parts.refiner import Refined
from hvg.parts.scene import Alignment, Dataset
from hvg.values.clip import ClipBatch
from hvg.values.scored_clip import Told

# From the weights that are trained to their optimiser, and the share of the peak learning rate at a step.
MakeOptimizer = Callable[[list[Group]], tuple[torch.optim.Optimizer, Callable[[int], float]]]
# Vertices of a body's mesh, SMPL-X's; where it stands, and as it is given.
MESH_BYTES = 2 * 12 * 10475
# Clean latents (B, V, t, C, h, w), and by how many pixels (B, V, T, 2) pictures were moved for them.
Latents = tuple[Tensor, Tensor | None]


class SamplingWords(TypedDict, total=False):
    """How a clip is sampled: by so many solver steps, from noise of a seed, calling ``progress(steps done, steps)``.

    windows_per_call and share: as of ``hvg.model.sampling.sample``. strengths: slot -> how strongly it is heard, in place of its
    setting ``strength``. refined: frames of another model, at which it begins (``hvg.model.refining``). Systems without such a
    thing take no notice.
    """

    num_steps: Required[int]
    seed: int
    progress: Callable[[int, int], None] | None
    windows_per_call: int | None
    share: bool
    strengths: Mapping[str, float] | None
    refined: Refined | None


@dataclass(frozen=True)
class Base:
    """What the weights that do not train are, where checkpoints leave them out.

    digest: as of ``hvg.core.digests.weights_digest``. checkpoint: that they were read from; None where from no checkpoint.
    weights: which of its weights, ``ema`` or ``raw``; None: as ``evaluation.weights`` says.
    """

    digest: str
    checkpoint: str | None = None
    weights: str | None = None


class TrainedSystem(nn.Module):
    """The steps of a system: ``training_step`` (``loss``, and further losses by name), and ``pieces`` of what it makes.

    What it draws at random in training it keys by (seed, ``ClipBatch.sample_index``): so a run that was stopped, and any number
    of ranks, draw the same. ``hvg.testing.check_system`` holds a system to this.

    alignment: where people are moved before the network sees them. background: sRGB in [0, 1], behind what it makes. signals:
    the control maps that clips carry for it, and whether a step needs the body's mesh. signal_keys: slot -> the key of its map.
    notes: what the user of a training should know, a line each.
    steps_done: steps of the run that are taken, 0 outside of training.
    rates, base: set where an adapter says what trains: name -> peak learning rate, of weights that have another one than the
    training's; and what the others are. None: checkpoints hold every weight.
    """

    rates: Mapping[str, float]
    base: Base | None

    def __init__(
        self,
        *,
        seed: int,
        alignment: Alignment,
        background: tuple[float, float, float] = (1.0, 1.0, 1.0),
        signals: Signals = NO_SIGNALS,
        signal_keys: Mapping[str, str] | None = None,
        optimizer: MakeOptimizer | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.seed, self.alignment, self.background = seed, alignment, background
        self.signals, self.signal_keys, self.notes = signals, signal_keys or {}, notes
        self._optimizer = optimizer
        self.rates, self.base = {}, None
        self.steps_done = 0
        # Not a buffer, which processes would exchange.
        self._place = torch.empty(0)

    # --- training -------------------------------------------------------------------------------------------------

    @abstractmethod
    def training_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Tensor]:
        """``loss``, and by name the losses that are part of it."""

    def training_clips(self, config: RunConfig) -> Dataset:
        """The clips that its training reads, with what it needs of them."""
        return clips_at_own_size(config, "train", self.signals)

    def step_flops(self, clips: int, image_size: tuple[int, int]) -> int | None:
        """Model FLOPs of a training step on so many clips with pictures of this size (height, width), at most; None where nobody
        says, or shapes do (those of a backbone are counted).
        """
        return None

    def check_captions(self, captions: Mapping[str, str]) -> None:
        """Raises: DataError for the first clip, of clip id -> caption, that it cannot read; asked before any work."""

    def make_optimizer(self) -> tuple[torch.optim.Optimizer, Callable[[int], float]]:
        """The optimiser of the weights that train, and the share of the peak learning rate at a step."""
        if self._optimizer is None:
            raise RuntimeError("this system was built for sampling: it has no optimiser")
        return self._optimizer(self.groups())

    def groups(self) -> list[Group]:
        """The weights that train, by their learning rates."""
        found: dict[float | None, list[nn.Parameter]] = {}
        for name, weight in self.named_parameters():
            if weight.requires_grad:
                found.setdefault(self.rates.get(name), []).append(weight)
        return [{"params": weights, **({} if rate is None else {"lr": rate})} for rate, weights in found.items()]

    def told_numbers(self, batch: ClipBatch) -> Told:
        """What its conditioners make of a clip (B = 1); nothing where it has none."""
        return Told({}, ())

    # --- where it is ----------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where it was moved to."""
        return self._place.device

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._place = fn(self._place)
        return super()._apply(fn, recurse)

    # --- sampling -------------------------------------------------------------------------------------------------

    def sample_latents(self, batch: ClipBatch, **words: Unpack[SamplingWords]) -> Latents | None:
        """What has to be worked out of a whole clip before its pictures can be made; None where nothing has."""
        return None

    @abstractmethod
    def pieces(self, batch: ClipBatch, latents: Latents | None) -> Iterator[Tensor]:
        """Frames (B, V, some, 3, H, W) in [-1, 1], piece by piece along time. latents: as of ``sample_latents``.

        Raises: HvgError naming the clips whose frames are not finite.
        """

    @torch.no_grad()
    def generate(self, batch: ClipBatch, **words: Unpack[SamplingWords]) -> Tensor:
        """Frames (B, V, T, 3, H, W) in [-1, 1] for the batch's reference, motion and cameras."""
        latents = self.sample_latents(batch, **words)
        return torch.cat(list(self.pieces(batch, latents)), dim=2)

    @property
    def stride(self) -> int:
        """By what the sides of pictures have to be divisible at least, whatever is asked for."""
        return 1

    @property
    def poses_photo(self) -> bool:
        """Whether it has to be told from where the photo was taken, and the body in it."""
        return False

    @property
    def reads_mesh(self) -> bool:
        """Whether it reads the body's mesh of a clip that carries no control maps."""
        return self.signals.mesh

    def picture_cell(self, config: RunConfig, num_steps: int, frames: int) -> int:
        """By what the sides of pictures have to be divisible where clips of so many frames are sampled."""
        return 1

    @abstractmethod
    def sampling_bytes(self, views: int, frames: int, image_size: tuple[int, int]) -> int:
        """Bytes of the host at the fullest moment of sampling a clip, without the model, what its networks hold while they
        look at a window, and what writes the videos.
        """
