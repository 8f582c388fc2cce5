"""What a radiance field learns of people in so many steps, beside projection: ``python tests/nerf_fit.py steps=400``.

Trained on the synthetic people of scale=cpu by Adam with a cosine and an average of the weights, 4 clips x 190 rays near the
person a step; scored on the test people by garment. Beside it the colours' projection on the bare mesh, and on the true dressed
one (oracle). ``seconds=60`` ends by the clock instead; ``people=48`` trains on fewer; ``fits=[mild,typical]`` also scores people
whose bodies, and the photo's, have such errors; ``KEY=VALUE`` else is a setting of the field; ``picture=FILE`` draws people. The
last lines say how long a picture takes, and how much of that is the search for the nearest skin.
"""

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from components.datasets.synthetic import _dressed
from components.people import posed_people
from components.people.surface_grid import SurfaceGrid
from components.reconstructors.nerf import Nerf
from components.reconstructors.projection import Projection
from hvg.config.build import build_dataset, build_fit, build_part
from hvg.config.composition import compose
from hvg.core.eight_bit import frames_from_uint8, frames_to_uint8
from hvg.core.random_keys import generator
from hvg.core.text_tables import table
from hvg.data.training_data import recolour
from hvg.geometry.motion import Motion
from hvg.media.images import write_png
from hvg.media.tiles import tile_columns
from hvg.model.ema import Averaging
from hvg.parts import registry
from hvg.parts.context import Context, SceneContext
from hvg.parts.reconstructor import Reconstructor
from hvg.values.body import BodyMotion, Skinning
from hvg.values.clip import ClipBatch
from hvg.values.scored_clip import scored_clips

METRICS = ("psnr_foreground", "psnr", "ssim", "mask_iou")
GARMENTS = ("none", "skirt", "coat")
CLIPS, RAYS, RECOLOUR = 4, 190, 0.3
# Pixels around the person from which rays are drawn, as wide as the shell.
AROUND = 7


@dataclass(frozen=True)
class People:
    """Clips, and what else is known of each."""

    clips: Sequence[ClipBatch]
    garments: Sequence[str]
    dressed: Sequence[ClipBatch]


def context() -> SceneContext:
    config = compose(["scale=cpu"])
    return SceneContext(renderer=build_part(config.renderer), body=build_part(config.body))


def training_people(count: int = 192) -> list[ClipBatch]:
    clips = build_dataset(compose(["scale=cpu"]), "train")
    return [clips.load(i) for i in range(count)]


def held_out_people(count: int = 16) -> People:
    """The first test people, with the body of each in their clothes."""
    data = build_dataset(compose(["scale=cpu"]), "test")
    clips = [data.load(i) for i in range(count)]
    scenes = [data._scene(i, 0) for i in range(count)]
    dressed = [
        replace(
            clip,
            body=_in_clothes(data, scene, clip.body),
            reference=replace(clip.reference, body=_in_clothes(data, scene, clip.reference.body)),
        )
        for clip, scene in zip(clips, scenes, strict=True)
    ]
    return People(clips, [scene.person.look.garment for scene in scenes], dressed)


def observed(clips: Sequence[ClipBatch], preset: str) -> list[ClipBatch]:
    """The clips with bodies as a fit has them."""
    fit = build_fit(compose(["scale=cpu", f"fit={preset}"]))
    return [fit.observe(clip) for clip in clips]


def _in_clothes(data, scene, body: BodyMotion) -> BodyMotion:
    """The dressed mesh in place of the bare one; how it is skinned nobody asks, but for how it is at rest."""
    rest = data._body.animate(Motion(rotations={"pelvis": torch.zeros(1, 3)}), scene.shape)
    vertices = _dressed(scene.person, body)[None]
    count = vertices.shape[2]
    skinning = Skinning(
        bones=("pelvis",),
        vertex_bones=torch.zeros(count, 1, dtype=torch.int16),
        vertex_weights=torch.ones(count, 1),
        rest=_dressed(scene.person, rest),
        transforms=torch.eye(4).expand(1, vertices.shape[1], 1, 4, 4),
    )
    return replace(body, vertices=vertices, faces=scene.person.faces, skinning=skinning)


def pixels_near(alpha: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """(B, N) pixels, counted through V, T, H, W, near people with alpha (B, V, T, 1, H, W)."""
    near = max_pool2d(alpha.flatten(0, 2), 2 * AROUND + 1, stride=1, padding=AROUND).view_as(alpha).flatten(1) > 0
    return torch.stack([some.nonzero()[:, 0][_some(int(some.sum()), count, draw)] for some in near])


def _some(total: int, count: int, draw: torch.Generator) -> Tensor:
    return torch.randint(total, (count,), generator=draw)


def loss_of(part: Reconstructor, batch: ClipBatch, pixels: Tensor, draws: Sequence[torch.Generator]) -> Tensor:
    """Squared error of colours before white, and of alpha."""
    seen = part.render(batch, pixels, draws)
    clip = torch.arange(len(pixels))[:, None]
    frames, alpha = batch.frames.movedim(3, -1).flatten(1, 4)[clip, pixels], batch.alpha.flatten(1)[clip, pixels]
    return (seen.on(torch.ones(3)) - frames).square().mean() + 0.1 * (seen.alpha - alpha).square().mean()


def batches(people: Sequence[ClipBatch], seed: int) -> Iterator[tuple[ClipBatch, Tensor, list[torch.Generator]]]:
    """One frame of all views of some people, with the pixels to look at and draws."""
    step = 0
    while True:
        draw = generator("nerf_fit", seed, step)
        clips = []
        for index in torch.randperm(len(people), generator=draw)[:CLIPS].tolist():
            clip = people[index]
            clip = clip.select(frames=[int(torch.randint(clip.grid[2], (1,), generator=draw))])
            clips.append(recolour(clip, draw) if float(torch.rand((), generator=draw)) < RECOLOUR else clip)
        batch = ClipBatch.stack(clips)
        yield batch, pixels_near(batch.alpha, RAYS, draw), [generator("draws", seed, step, b) for b in range(CLIPS)]
        step += 1


def fit(
    part: Nerf,
    people: Sequence[ClipBatch],
    steps: int | None,
    seconds: float | None = None,
    seed: int = 0,
    rate: float = 3e-3,
) -> int:
    """Trains until so many steps or seconds are over, and leaves the averaged weights; how many steps were taken."""
    adamw = registry.load("optimizer", "adamw_fused")
    settings = adamw.Config(betas=(0.9, 0.99), weight_decay=0.0)
    optimizer = Averaging(adamw(settings), [{"params": list(part.parameters())}], rate, decay=0.99)
    started, taken, losses = time.perf_counter(), 0, []
    for taken, (batch, pixels, draws) in enumerate(batches(people, seed)):
        done = taken / steps if steps else (time.perf_counter() - started) / (seconds or 60)
        if done >= 1:
            break
        warm = min(1.0, (taken + 1) / 20)
        optimizer.param_groups[0]["lr"] = warm * rate * float(torch.cos(torch.tensor(done * torch.pi / 2)) ** 2)
        optimizer.zero_grad()
        loss = loss_of(part, batch, pixels, draws)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if taken % 100 == 99:
            spent = time.perf_counter() - started
            print(
                f"step {taken + 1}: loss {statistics.mean(losses[-100:]):.4f}, {spent:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.copy_(optimizer.state[parameter]["average"])
    return taken


@torch.no_grad()
def pictures(part: Reconstructor, clip: ClipBatch) -> Tensor:
    """(V, T, 3, H, W) uint8 of a clip, before white."""
    return frames_to_uint8(part.render(clip).on(torch.ones(3)).movedim(-1, 3))[0]


def scores(clips: Sequence[ClipBatch], made: Sequence[Tensor]) -> Tensor:
    """(clips, metrics)."""
    parts = [registry.load("metric", name) for name in METRICS]
    metrics = [part(part.Config(), Context()) for part in parts]
    rows = []
    for clip, frames in zip(clips, made, strict=True):
        (scored,) = scored_clips(clip, frames[None])
        rows.append([float(metric.measure(scored)["cells"].mean()) for metric in metrics])
    return torch.tensor(rows)


def rows_of(label: str, found: Tensor, garments: Sequence[str]) -> list[tuple[str, ...]]:
    """The mean, and the person's PSNR by garment."""
    by = [found[[g == garment for g in garments], 0].mean() for garment in GARMENTS]
    mean = found.mean(dim=0)
    shown = [f"{mean[0]:.2f}", f"{mean[1]:.2f}", f"{mean[2]:.3f}", f"{mean[3]:.3f}", *(f"{x:.2f}" for x in by)]
    return [(label, *shown)]


def draw(path: Path, people: People, parts: dict[str, Reconstructor]) -> None:
    """A PNG: photo, truth, and what each part makes of it, of two views of one person of every garment and one more."""
    shown = [people.garments.index(garment) for garment in GARMENTS]
    shown.append(next(i for i, garment in enumerate(people.garments) if garment == "coat" and i not in shown))
    columns: dict[str, list[Tensor]] = {}
    for index in shown:
        clip = people.clips[index].select([1, 2], [2])
        columns.setdefault("photo", []).append(clip.reference.frames[0, :1, None].expand(2, 1, -1, -1, -1))
        columns.setdefault("truth", []).append(clip.frames[0])
        for label, part in parts.items():
            columns.setdefault(label, []).append(frames_from_uint8(pictures(part, clip)))
    large = {
        label: torch.cat(found).repeat_interleave(2, -1).repeat_interleave(2, -2) for label, found in columns.items()
    }
    write_png(path, tile_columns(large)[0])


def seconds_of(function: Callable[[], object], runs: int = 5) -> float:
    """Median time of a core, whatever else the machine does."""
    function()
    times = []
    for _ in range(runs):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return statistics.median(times)


@torch.no_grad()
def costs(part: Reconstructor, clip: ClipBatch) -> tuple[float, float, float]:
    """Milliseconds of a picture, drawn with all of its clip and alone; and the share of the search for the nearest skin in the
    former, where no grid was made before."""
    whole = seconds_of(lambda: _afresh(part).render(clip)) / clip.grid[1] / clip.grid[2]
    alone = seconds_of(lambda: _afresh(part).render(clip.select([0], [0])))
    spent = 0.0

    def timed(function):
        def run(*words, **more):
            nonlocal spent
            started = time.process_time()
            result = function(*words, **more)
            spent += time.process_time() - started
            return result

        return run

    with contextlib.ExitStack() as patched:
        patched.enter_context(patch.object(posed_people, "frame_grid", timed(posed_people.frame_grid)))
        for name in ("crossed", "near_pieces", "nearest"):
            patched.enter_context(patch.object(SurfaceGrid, name, timed(getattr(SurfaceGrid, name))))
        started = time.process_time()
        _afresh(part).render(clip)
        total = time.process_time() - started
    return 1e3 * whole, 1e3 * alone, spent / total


def _afresh(part: nn.Module) -> Reconstructor:
    """The part without what it kept."""
    kept = getattr(part, "_kept", None)
    if kept is not None:
        part._kept = type(kept)(kept._limit)
    return part


def main() -> None:
    torch.set_num_threads(1)
    words = {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in sys.argv[1:])}
    steps, seconds, count = words.pop("steps", None), words.pop("seconds", None), words.pop("people", 192)
    seed, picture, scene = words.pop("seed", 0), words.pop("picture", None), context()
    fits = words.pop("fits", [])
    torch.manual_seed(seed)
    nerf = Nerf(Nerf.Config(**words), scene)
    bare, oracle = (Projection(Projection.Config(**given), scene) for given in ({}, {"outward_mm": 0}))
    people = held_out_people()
    rows = [("", *METRICS, *GARMENTS)]
    for label, part, clips in (("projection", bare, people.clips), ("oracle", oracle, people.dressed)):
        made = [pictures(part, clip) for clip in clips]
        rows += rows_of(label, scores(people.clips, made), people.garments)
    fitted = {preset: observed(people.clips, preset) for preset in fits}
    for preset, clips in fitted.items():
        made = [pictures(bare, clip) for clip in clips]
        rows += rows_of(f"projection, fit={preset}", scores(people.clips, made), people.garments)
    print("\n".join(table(rows)), flush=True)
    if steps or seconds:
        started = time.perf_counter()
        trained = training_people(count)
        print(f"{count} people in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        started = time.perf_counter()
        taken = fit(nerf, trained, steps, seconds, seed)
        label = f"nerf, {taken} steps, {time.perf_counter() - started:.0f} s"
        for more, clips in {"": people.clips, **{f", fit={preset}": clips for preset, clips in fitted.items()}}.items():
            made = [pictures(nerf, clip) for clip in clips]
            rows += rows_of(label + more, scores(people.clips, made), people.garments)
        print("\n".join(table(rows)), flush=True)
        if picture:
            draw(Path(picture), people, {"projection": bare, "radiance field": nerf})
    weights = sum(p.numel() for p in nerf.parameters())
    for label, part in (("projection", bare), (f"nerf, {weights} weights", nerf)):
        whole, alone, share = costs(part, people.clips[0])
        print(
            f"{label}: {whole:.1f} ms a picture, {alone:.1f} ms alone, {share:.0%} of it the search for the nearest skin"
        )


if __name__ == "__main__":
    main()
