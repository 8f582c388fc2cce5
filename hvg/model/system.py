"""The system of video models: parts come in built; one training step reads top to bottom."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from hvg.config import wiring
from hvg.config.settings import RunConfig
from hvg.core.finite import refuse_not_finite
from hvg.core.on_device import constants, upload
from hvg.core.random_keys import generator
from hvg.core.required import required
from hvg.data.cache import open_training_clips
from hvg.data.latents import latent_coverage
from hvg.data.signals import Signals
from hvg.model.known_latents import KNOWN, blank_latents, hide_known, known_latents
from hvg.model.latent_pictures import decoded_pieces, resized_latents
from hvg.model.planned_steps import frames_by_shrink
from hvg.model.sampling import sample
from hvg.model.sampling_memory import sampled_bytes
from hvg.model.slots import condition_slots, drawn, droppable, keep, tell, weigh
from hvg.model.told import told_of
from hvg.model.trained_system import Latents, MakeOptimizer, TrainedSystem
from hvg.model.training_noise import TrainingNoise
from hvg.model.window_denoiser import WindowDenoiser
from hvg.parts.backbone import Backbone, DeepFeatures
from hvg.parts.model import Codec, Conditioner, Prediction
from hvg.parts.plan import Guidance, GuidedClips, Sampler, Solver
from hvg.parts.refiner import Refined, started_levels
from hvg.parts.scene import Alignment, Dataset
from hvg.parts.text_conditioner import check_captions
from hvg.values.clip import ClipBatch, Within
from hvg.values.conditioning import Conditioning
from hvg.values.grid import ViewGrid
from hvg.values.latent_clip import grouped, latent_grid, latent_index, of_last_frames
from hvg.values.latent_time import latent_frames
from hvg.values.moved import align
from hvg.values.scored_clip import Told


class HumanVideoSystem(TrainedSystem):
    """Conditioners steer a backbone that denoises a codec's latents.

    ``conditioners`` maps slot -> part; the order of slots is the order in which their ports are merged. ``signal_keys``: slot
    -> the key of its control map.
    """

    def __init__(
        self,
        *,
        alignment: Alignment,
        backbone: Backbone,
        conditioners: Mapping[str, Conditioner],
        codec: Codec,
        prediction: Prediction,
        sampler: Sampler,
        solver: Solver,
        guidance: Guidance,
        signal_keys: Mapping[str, str],
        seed: int,
        foreground_weight: float = 0.0,
        noise: TrainingNoise | None = None,
        background: tuple[float, float, float] = (1.0, 1.0, 1.0),
        first_view: Within = "grid",
        kept_conditioning: float = 4.0,
        reuse: int = 1,
        kept_features: float = 16.0,
        frame_index: Within = "grid",
        optimizer: MakeOptimizer | None = None,
    ) -> None:
        super().__init__(
            seed=seed,
            alignment=alignment,
            background=background,
            signals=Signals.of({signal_keys[slot]: part for slot, part in conditioners.items()}),
            signal_keys=signal_keys,
            optimizer=optimizer,
        )
        self.backbone = backbone
        # A ModuleDict's type does not say what it holds.
        self.conditioners = cast(Mapping[str, Conditioner], nn.ModuleDict(conditioners))
        # Not a module, so that its frozen weights are neither trained, saved nor partitioned.
        self.codec = codec
        self.prediction, self.sampler, self.solver, self.guidance = prediction, sampler, solver, guidance
        self.foreground_weight, self.noise = foreground_weight, noise or TrainingNoise()
        self.first_view: Within = first_view
        self.kept_conditioning = kept_conditioning
        self.reuse, self.kept_features = reuse, kept_features
        self._blanks: dict[tuple, Tensor] = {}
        self.frame_index: Within = frame_index

    # --- training -------------------------------------------------------------------------------------------------

    def training_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Tensor]:
        """``loss``, and by name the auxiliary losses that are part of it."""
        batch, _ = self.aligned(batch)
        latents = self.latents(batch)
        sigma, noise, draw = self.randomness(batch, latents)
        batch = self.noise.told(batch, sigma, self.temporal_stride)
        kept = self.kept(batch, draw)
        conditioning = self.condition(batch, kept)
        noisy = latents + sigma * noise
        if self.noise.has_known and KNOWN in kept:
            noisy = hide_known(noisy, sigma, kept[KNOWN], self.blank(noisy))
        denoised = self.denoise(noisy, sigma, conditioning, *self.places(batch))
        weight = self.noise.weight(self.prediction, sigma)
        error = (weight * self.region_weight(batch, latents) * (denoised - latents) ** 2).mean()
        auxiliary = {name: (self.clip_weight(batch) * value).mean() for name, value in conditioning.losses.items()}
        return {"loss": error + sum(auxiliary.values()), **auxiliary}

    def training_clips(self, config: RunConfig) -> Dataset:
        return open_training_clips(config, self.codec, self.conditioners)

    def check_captions(self, captions: Mapping[str, str]) -> None:
        check_captions(self.conditioners.values(), captions)

    def latents(self, batch: ClipBatch) -> Tensor:
        """Clean latents (B, V, t, C, h, w) of an aligned batch: those that it carries, else the codec's of its frames."""
        if batch.latents is not None:
            return batch.latents
        with torch.no_grad():
            return self.codec.encode(required(batch.frames, "ClipBatch.frames"))

    def randomness(self, batch: ClipBatch, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Noise level (B V t 1 1 1), 0 where a cell is known, noise like the latents, and the dropout draw (B); keyed by (seed,
        sample index).
        """
        indices = required(batch.sample_index, "ClipBatch.sample_index").tolist()
        pixels, keyed = math.prod(batch.cameras.image_size), partial(generator, self.seed)
        drawn = [self.noise.drawn(self.prediction, latents.shape[1:], keyed, i, pixels=pixels) for i in indices]
        sigma, noise, draw = (upload(torch.stack(x), latents.device) for x in zip(*drawn, strict=True))
        return sigma.to(latents), noise.to(latents), draw

    def kept(self, batch: ClipBatch, draw: Tensor) -> dict[str, Tensor]:
        """Slot -> which clips (B) keep its signal, of the slots that are dropped in training.

        draw: (B) in [0, 1), for the slots that drop together; one that drops alone has draws of its own, keyed by (seed, slot,
        sample index).
        """

        indices = required(batch.sample_index, "ClipBatch.sample_index").tolist()
        return drawn(self.conditioners, self.seed, indices, draw)

    def region_weight(self, batch: ClipBatch, latents: Tensor) -> Tensor | float:
        """1 on the background, 1 + foreground_weight on the person, in latent cells; 0 where a clip is padded."""
        weight: Tensor | float = 1.0
        covered = latent_coverage(batch, latents, self.temporal_stride)
        if self.foreground_weight and covered is not None:
            weight = 1.0 + self.foreground_weight * covered
        if batch.valid is not None:
            weight = weight * of_last_frames(batch.valid, self.temporal_stride)[..., None, None, None].to(latents)
        return weight

    def clip_weight(self, batch: ClipBatch) -> Tensor | float:
        """1 for a clip (B) of which something is valid, 0 for one that only fills a place."""
        return 1.0 if batch.valid is None else batch.valid.flatten(1).any(dim=1).float()

    def aligned(self, batch: ClipBatch) -> tuple[ClipBatch, Tensor | None]:
        """The batch as the network sees it, and by how many pixels (B, V, T, 2) its pictures were moved for that."""
        offsets, reference_offsets = self.offsets(batch)
        return self.prepared(batch, offsets, reference_offsets), offsets

    def offsets(self, batch: ClipBatch) -> tuple[Tensor | None, Tensor | None]:
        """Pixels by which pictures (B, V, T, 2) and photos (B, R, 2) are moved; None where nothing moves."""
        return self.alignment.offsets(batch), self.alignment.reference_offsets(batch)

    def prepared(
        self,
        batch: ClipBatch,
        offsets: Tensor | None,
        reference_offsets: Tensor | None,
        signals: Signals | None = None,
    ) -> ClipBatch:
        """The batch with these control maps, None for all of them, and moved.

        Maps that the batch does not carry are drawn, as they would be for a file, before anything moves: what the border cut
        off stays cut off, and results do not depend on what was cached.
        """
        background = self._background(batch.cameras.intrinsics)
        drawn = (self.signals if signals is None else signals).draw(batch)
        return align(drawn, offsets, reference_offsets, background)

    def condition(self, batch: ClipBatch, kept: Mapping[str, Tensor] | None = None) -> Conditioning:
        """All slots' ports (B, V, t, ...) for an aligned batch (B, V, T), merged. kept: slot -> clips (B) that keep its signal;
        None: all do.
        """
        seen = grouped(self.signals.draw(batch), self.temporal_stride)
        given = tell(self.conditioners, condition_slots(self.conditioners, self.signal_keys, seen), seen)
        given = weigh(self.conditioners, given, self.steps_done)
        return Conditioning.merge(keep(self.conditioners, given, kept or {}).values())

    @torch.no_grad()
    def told_numbers(self, batch: ClipBatch) -> Told:
        """Of every slot that fills a port, as of ``told_of``; who is told, and how strongly, is not asked."""
        seen = grouped(self.signals.draw(self.aligned(batch)[0]), self.temporal_stride)
        given = condition_slots(self.conditioners, self.signal_keys, seen)
        return told_of(given, batch.grid[2], self.temporal_stride)

    def places(self, batch: ClipBatch) -> tuple[Tensor | None, ViewGrid]:
        """Where the latent frames of an aligned batch stand: in the video (B, t), and before which cameras (B, V, t)."""
        stride = self.temporal_stride
        return latent_index(batch.frame_index, stride), latent_grid(batch.view_grid(), stride)

    def denoise(
        self,
        noisy: Tensor,
        sigma: Tensor,
        conditioning: Conditioning,
        frame_index: Tensor | None,
        grid: ViewGrid,
        deep: DeepFeatures | None = None,
    ) -> Tensor:
        """The estimate of the clean latents (B, V, t, C, h, w): what training compares, and what sampling steps towards.

        sigma: (B, V, t, 1, 1, 1). frame_index: (B, t), of which the backbone hears as ``DataConfig.frame_index`` says. deep: as
        of ``Backbone.forward``.
        """
        asked = self._asked(noisy, sigma, conditioning, frame_index, grid)
        output = self.backbone(*asked) if deep is None else self.backbone(*asked, deep)
        base = conditioning.base
        if base is None:
            return self.prediction.denoised(output.float(), noisy, sigma)
        return base + self.prediction.denoised(output.float(), noisy - base, sigma)

    def attended(
        self, noisy: Tensor, sigma: Tensor, conditioning: Conditioning, frame_index: Tensor | None, grid: ViewGrid
    ) -> dict[str, Tensor]:
        """By memory site, the tokens (B, V, t, M, D) that the network's spatial attention sees; asked as ``denoise`` is."""
        return self.backbone.attended(*self._asked(noisy, sigma, conditioning, frame_index, grid))

    def _asked(
        self, noisy: Tensor, sigma: Tensor, conditioning: Conditioning, frame_index: Tensor | None, grid: ViewGrid
    ) -> tuple[Tensor, Tensor, Conditioning, Tensor | None, ViewGrid]:
        index = frame_index if self.frame_index == "grid" else None
        level = self.prediction.level(sigma)[..., 0, 0, 0]
        return self.prediction.input_scale(sigma) * noisy, level, conditioning, index, grid

    # --- sampling -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample_latents(
        self,
        batch: ClipBatch,
        *,
        num_steps: int,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
        windows_per_call: int | None = None,
        share: bool = False,
        strengths: Mapping[str, float] | None = None,
        refined: Refined | None = None,
    ) -> Latents:
        """Clean latents (B, V, t, C, h, w) of the aligned pictures, and their offsets, for ``decode``.

        The starting noise is keyed by (seed, clip id), so it is the same for every arm of a study and every batch size.
        Control maps that the batch does not carry are drawn window by window: then nothing but the latents grows with the
        length of the video. What is ``known`` of the batch stays as its frames are. windows_per_call and share: see
        ``hvg.model.sampling.sample``. strengths: slot -> how strongly it is heard, in place of its setting ``strength``.
        refined: where it begins. Raises: HvgError naming the clips for which they are not finite.
        """
        offsets, reference_offsets = self.offsets(batch) if refined is None or refined.aligned else (None, None)
        _, v, t = batch.grid
        height, width = batch.cameras.image_size
        cells = (height // self.codec.stride, width // self.codec.stride)
        shape = (v, latent_frames(t, self.temporal_stride), self.codec.channels, *cells)
        guided = GuidedClips(
            grid=(len(batch.clip_id), *shape[:2]),
            task=None if batch.task is None else batch.task.cpu(),
            cameras=self.places(batch)[1].cameras.to("cpu"),
        )

        def noise(*key: int | str) -> Tensor:
            return torch.stack([torch.randn(shape, generator=generator(seed, *key, n)) for n in batch.clip_id]).to(
                self.device
            )

        known = known_latents(batch, offsets, self.codec, self._background(batch.cameras.intrinsics))
        asked = v if known is None else max(1, int((~known.cells.all(dim=1)).sum()))
        frames = frames_by_shrink(self.sampler, num_steps, asked, shape[1])
        moved = offsets, reference_offsets
        denoiser = WindowDenoiser(self, batch, moved, cells, frames, strengths or {}, refined and refined.refiner)
        latents = sample(
            denoiser,
            noise("sample"),
            started_levels(self.prediction, num_steps, refined, pixels=height * width),
            self.sampler,
            self.solver,
            self.guidance,
            progress,
            windows_per_call=windows_per_call,
            clips=guided,
            step_noise=lambda step: noise("step", step),
            resize=partial(resized_latents, self.codec),
            share=share,
            known=known,
            refined=refined,
            begin=denoiser.deep.begin,
        )
        refuse_not_finite(latents, batch.clip_id, "the latents that the model makes")
        return latents, offsets

    def blank(self, x: Tensor) -> Tensor:
        """As of ``blank_latents``, made once for a size."""
        key = (x.shape[-2:], x.device, x.dtype)
        if key not in self._blanks:
            self._blanks[key] = blank_latents(x, self.codec, self._background(x))
        return self._blanks[key]

    def _background(self, like: Tensor) -> Tensor:
        """sRGB in [-1, 1], (3,)."""
        return constants(self.background, like) * 2 - 1

    def pieces(self, batch: ClipBatch, latents: Latents | None) -> Iterator[Tensor]:
        return self.decode(*required(latents, "the latents of a clip"), batch.clip_id, batch.grid[2])

    def decode(
        self, latents: Tensor, offsets: Tensor | None, clips: Sequence[str], length: int | None = None
    ) -> Iterator[Tensor]:
        """Frames (B, V, some, 3, H, W) in [-1, 1], piece by piece along time, moved back to where they belong.

        length: T of the video; what it was padded with is cut off. None: all that the latents are decoded to.
        Raises: HvgError naming those of the ``clips`` whose frames are not finite.
        """
        background = self._background(latents)
        return decoded_pieces(self.codec, latents, offsets, background, clips, length)

    @property
    def temporal_stride(self) -> int:
        """Frames that a latent frame joins, behind the first (``hvg.values.latent_time``)."""
        return self.codec.temporal_stride

    @property
    def stride(self) -> int:
        return self.codec.stride

    @property
    def poses_photo(self) -> bool:
        return any(part.poses_photo for part in self.conditioners.values())

    @property
    def reads_mesh(self) -> bool:
        return any(part.reads_mesh(part.config) for part in self.conditioners.values())

    def picture_cell(self, config: RunConfig, num_steps: int, frames: int) -> int:
        """By every halving of codec, backbone and sampler."""
        frames = latent_frames(frames, self.temporal_stride)
        shrink = max(self.sampler.stage(step, num_steps, frames).shrink for step in range(num_steps))
        return math.prod(wiring.image_cell(config)) * shrink

    def sampling_bytes(self, views: int, frames: int, image_size: tuple[int, int]) -> int:
        conditioners, codec = self.conditioners, self.codec
        return sampled_bytes(
            (views, frames, image_size),
            codec,
            guided=any(self.guidance.branches([*droppable(conditioners)])),
            map_channels=sum(part.signal_channels(part.config) for part in conditioners.values()),
            mesh=self.signals.mesh,
        )
