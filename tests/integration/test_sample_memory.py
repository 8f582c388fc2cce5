"""A longer video takes more latents and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VIEWS, SIZE = 2, 128
# Prints the peak memory of this process, bytes, after it has sampled or written that many frames.
SCRIPT = """
import resource, sys, tempfile
from pathlib import Path
import torch
from hvg.config.build import build_part
from hvg.sample.camera_paths import around
from hvg.config.composition import compose
from hvg.geometry.motion import Motion
from hvg.sample.videos import Made, Request, write_videos
from hvg.model.load import build_system
from hvg.values.clip import ClipBatch, Reference

phase, frames, views, size, *words = sys.argv[1:]
frames, views, size = int(frames), int(views), int(size)
torch.set_num_threads(1)
config = compose(words)
system = build_system(config).eval()
body = build_part(config.body).animate(Motion(rotations={"pelvis": torch.zeros(frames, 3)}), None, mesh=False)
cameras = around(
    torch.tensor([0.0, 0.9, 0.0]), views, elevation_degrees=5.0, distance=3.2, fov_degrees=36.0, image_size=(size, size)
)
batch = ClipBatch(
    cameras=cameras.cameras.expand(views, frames)[None],
    clip_id=("a",),
    subject=("a",),
    body=body,
    reference=Reference(frames=torch.zeros(1, 1, 3, size, size)),
    frame_index=torch.arange(frames)[None],
)
if phase == "sample":
    system.sample_latents(batch, num_steps=1, windows_per_call=1)
else:
    # As many latents as frames, in the memory of one.
    latents = torch.zeros(1, views, 1, 48, size // 4, size // 4).expand(-1, -1, frames, -1, -1, -1)
    request = Request(system=system, config=config, batch=batch, names=cameras.names, notes=())
    with tempfile.TemporaryDirectory() as folder:
        write_videos(Path(folder), request, Made(latents=(latents, None)), 8.0, lambda done, total: None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak(tiny, phase, frames):
    words = [
        *(word for word in tiny if not word.startswith("dataset.image_size")),
        f"dataset.image_size={SIZE}",
        *("pose=skeleton", "sampler=temporal", "sampler.frames=4", "sampler.overlap=1"),
        "evaluation.kept_conditioning=0",
    ]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, phase, *map(str, (frames, VIEWS, SIZE)), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.long
def test_no_decoded_video_is_held(tiny):
    # From 64 frames on the encoders hold as many frames as they ever will to look ahead.
    short, long = 64, 160
    decoded = (long - short) * VIEWS * 3 * SIZE**2 * 4
    growth = peak(tiny, "write", long) - peak(tiny, "write", short)
    assert growth < 0.4 * decoded


@pytest.mark.long
def test_sampling_grows_by_a_few_times_the_latents(tiny):
    short, long = 8, 64
    latents = (long - short) * VIEWS * 48 * (SIZE // 4) ** 2 * 4
    # Noise, the point reached, its estimate, the windows' estimates and their blend: 5.3 were measured.
    growth = peak(tiny, "sample", long) - peak(tiny, "sample", short)
    assert growth < 8 * latents
