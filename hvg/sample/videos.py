"""The videos that ``hvg sample`` writes: decoded, drawn and encoded piece by piece, so that none is ever held whole."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hvg.config.settings import RunConfig
from hvg.core.labels import map_label
from hvg.core.required import required
from hvg.data.signals import signal_label
from hvg.geometry.foreign_cameras import write_transforms
from hvg.media.images import write_png
from hvg.media.tiles import tile_groups
from hvg.media.video import VideoWriter
from hvg.model.refining import Refining
from hvg.model.trained_system import Latents, TrainedSystem
from hvg.sample.grid import GRID, as_grid
from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch

IMAGES = "images"
# nerfstudio's file, and those of D-NeRF's data, which loaders of 4D Gaussians open: what is trained on, and what is looked at.
TRANSFORMS = ("transforms.json", "transforms_train.json", "transforms_test.json")


@dataclass(frozen=True, kw_only=True)
class Second:
    """What refines the frames of a request, and the clip as that reads it."""

    refining: Refining
    batch: ClipBatch


@dataclass(frozen=True, kw_only=True)
class Made:
    """What the pictures of a request are made of, and what ``hvg sample`` keeps while it writes them.

    latents: as of ``TrainedSystem.sample_latents``. frames: (1, V, T, 3, H, W) uint8, those that were refined, where the pictures
    are partly theirs.
    """

    latents: Latents | None
    frames: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """A clip to generate (a batch of one) and the system that generates it.

    names: of the views. notes: what the user should know. second: what refines its frames; given: those that it refines,
    (1, V, T, 3, H, W) uint8, where nothing has to be generated. rate: frames per second, where the options say none.
    """

    system: TrainedSystem
    config: RunConfig
    batch: ClipBatch
    names: tuple[str, ...]
    notes: tuple[str, ...]
    second: Second | None = None
    given: Tensor | None = None
    rate: float = 8.0

    def pieces(self, made: Made) -> Iterator[Tensor]:
        """Frames (1, V, some, 3, H, W) in [-1, 1], piece by piece along time."""
        if self.second is None:
            return self.system.pieces(self.batch, made.latents)
        latents = required(made.latents, "the latents of a clip")
        return self.second.refining.pieces(self.second.batch, made.frames, latents)


def write_videos(
    out: Path,
    request: Request,
    made: Made,
    frames_per_second: float,
    report: Callable[[int, int], None],
    *,
    images: bool = False,
    grid: bool = False,
    photo: Tensor | None = None,
) -> list[str]:
    """Makes pictures piece by piece into a video per view, all of them tiled, and the same with their control maps.

    images: whether every frame becomes a PNG as well, with ``TRANSFORMS``. grid: whether ``GRID`` are written as well, with a
    photo (3, H, W) where there is one. The videos appear under their names when all are whole; of an earlier sample in this
    folder nothing stays. Returns the names.
    """
    batch, total, done = request.batch, request.batch.grid[2], 0
    labels = [f"{v}: {name}" for v, name in enumerate(request.names)]
    pictures_of = [[f"{IMAGES}/view-{v:02d}/{t:05d}.png" for t in range(total)] for v in range(len(labels))]
    files = [f"view-{v:02d}.mp4" for v in range(len(labels))] + ["tiled.mp4"]
    files += ["signals.mp4"] * bool(shown_slots(request)) + [*GRID] * grid
    with ExitStack() as stack:
        videos = {name: stack.enter_context(VideoWriter(out / name, frames_per_second)) for name in files}
        for piece in request.pieces(made):
            frames = piece[0].float().cpu()
            for v, view in enumerate(frames):
                videos[files[v]].add(view)
            # A frame of many views, tiled, is large: one at a time.
            for t in range(frames.shape[1]):
                pictures = dict(zip(labels, frames[:, t : t + 1], strict=True))
                for view, names in zip(frames[:, t], pictures_of if images else (), strict=images):
                    write_png(out / names[done], view)
                videos["tiled.mp4"].add(tile_groups([{label: picture} for label, picture in pictures.items()]))
                maps = control_maps(request, batch.select(frames=[done])) if shown_slots(request) else {}
                if "signals.mp4" in videos:
                    every = {title: image for own in maps.values() for title, image in own.items()}
                    videos["signals.mp4"].add(tile_groups(beside(pictures, every)))
                if grid:
                    firsts = dict(next(iter(own.items())) for own in maps.values())
                    shown = as_grid(photo, beside(pictures, firsts))
                    for name in GRID:
                        videos[name].add(shown)
                done += 1
                report(done, total)
    _remove_images(out, {name for view in pictures_of for name in view} if images else set())
    if images:
        write_camera_files(out, batch.cameras[0].to("cpu"), pictures_of)
    _remove_others(out, files)
    return files


def write_camera_files(out: Path, cameras: Cameras, pictures: Sequence[Sequence[str]]) -> None:
    """Writes ``TRANSFORMS`` for cameras (V, T) and their pictures, whose ending D-NeRF's leave out; test is the first view."""
    short = [[name.removesuffix(".png") for name in view] for view in pictures]
    whole, train, test = (out / name for name in TRANSFORMS)
    write_transforms(whole, cameras, pictures)
    write_transforms(train, cameras, short)
    write_transforms(test, cameras[:1], short[:1])


def beside(pictures: Mapping[str, Tensor], maps: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """A group per view: the picture and its control maps. maps: name -> (V, T, 3, H, W)."""
    return [
        {label: picture} | {name: signal[v] for name, signal in maps.items()}
        for v, (label, picture) in enumerate(pictures.items())
    ]


def shown_slots(request: Request) -> dict[str, str]:
    """Slot -> the key of its map, of those whose maps are of a picture each and are heard."""
    heard = {slot for slot, choice in request.config.conditioners.items() if choice.config.strength}
    keys = request.system.signal_keys
    return {slot: key for slot, key in keys.items() if slot in heard and key in request.system.signals.ahead}


def control_maps(request: Request, batch: ClipBatch) -> dict[str, dict[str, Tensor]]:
    """Slot -> title of each of its control maps, no title twice -> its pictures (V, T, 3, H, W), of maps as they are stored.

    Without maps that depend on what is denoised together: a sampler sees another one in each of its windows.
    """
    system, found, titles = request.system, dict[str, dict[str, Tensor]](), set[str]()
    drawn = system.signals.ahead.draw(batch).signals
    for slot, key in shown_slots(request).items():
        if key in drawn:
            images = system.signals[key].signal_images(drawn[key])
            named = {map_label(signal_label(key), name): image[0].cpu() for name, image in images.items()}
            found[slot] = {f"{slot}: {title}" if title in titles else title: image for title, image in named.items()}
            titles |= found[slot].keys()
    return found


def _remove_images(out: Path, files: Set[str]) -> None:
    """Removes other pictures, of an earlier sample, and the files of cameras that go with them; somebody else's stay."""
    names = [path.relative_to(out).as_posix() for path in (out / IMAGES).glob("view-*/*.png")]
    earlier = [
        name for name in names if re.fullmatch(rf"{IMAGES}/view-\d\d+/\d{{5,}}\.png", name) and name not in files
    ]
    for name in earlier:
        (out / name).unlink()
    for name in TRANSFORMS if earlier else ():
        (out / name).unlink(missing_ok=True)


def _remove_others(out: Path, files: Iterable[str]) -> None:
    """Removes what a sample with more views left in this folder, so that all in it is of one sample."""
    for path in out.iterdir():
        if re.fullmatch(r"view-\d\d+\.mp4|signals\.mp4|grid\.(mp4|webp)", path.name) and path.name not in files:
            path.unlink()
