"""Loss curves of short trainings. ``python tests/loss_curves.py``, in the root of the repository, writes the goldens anew.

They are written anew when a change is meant to train otherwise; the commit says why.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from conftest import TINY

from hvg.config.composition import compose
from hvg.train.run import train

FILE = Path(__file__).parent / "data" / "loss_curves.json"
STEPS = 10
# Two views x two frames of three people at 32 px, in single precision. All else is scale=cpu.
SMALL = (
    "scale=cpu",
    *(word for word in TINY if word.startswith("dataset.")),
    "data.batch_size=2",
    "data.views=2",
    "data.frames=2",
    "device=cpu",
    "training.precision='32'",
    "training.warmup_steps=4",
    f"training.steps={STEPS}",
    "training.log_every=1",
    "training.checkpoint_every=1000",
)
# A transformer of two blocks that learns from text or from none.
SMALL_WAN = ("backbone.width=48", "backbone.heads=2", "backbone.layers=2", "backbone.feed_forward=96")
SMALL_FLUX = (
    "backbone.width=48",
    "backbone.heads=2",
    "backbone.axes=[8,8,8]",
    "backbone.double_blocks=1",
    "backbone.single_blocks=1",
)
READING = ("backbone.weights=null", "backbone.cross_attention_width=16", "training.learning_rate=1e-3")
# Option of the group ``backbone`` -> what makes it small, with the parameterisation of the scale that it is for.
BACKBONES = {
    "svd_tiny": ("backbone.widths=[32,32]", "backbone.heads=[1,1]"),
    "svd_mid": ("backbone.widths=[32,32,32]", "backbone.heads=[1,1,1]"),
    "svd_xt": (
        "prediction=v",
        "backbone.weights=null",
        "backbone.widths=[32,32,32,32]",
        "backbone.heads=[1,1,1,1]",
        "backbone.layers_per_block=1",
        "backbone.cross_attention_width=16",
        "backbone.addition_time_embed_dim=16",
        "backbone.norm_groups=8",
        "training.learning_rate=1e-3",
    ),
    "wan_tiny": (*SMALL_WAN, "backbone.view_blocks=[1]"),
    "wan_mid": (*SMALL_WAN, "backbone.view_blocks=[0,1]"),
    "wan_1_3b": (*SMALL_WAN, *READING),
    "wan_5b": (*SMALL_WAN, *READING),
    "wan_14b": (*SMALL_WAN, *READING),
    "flux_tiny": (*SMALL_FLUX, "backbone.view_blocks=[1]"),
    "flux_mid": (*SMALL_FLUX, "backbone.view_blocks=[0,1]"),
    "flux_kontext": (*SMALL_FLUX, *READING, "backbone.pooled_width=16"),
}


def loss_curve(backbone: str, folder: Path, more: Sequence[str] = ()) -> list[float]:
    """The loss of every step of a training in a folder of its own."""
    config = compose([*SMALL, f"backbone={backbone}", *BACKBONES[backbone], f"output={folder}", "name=run", *more])
    train(config, log=lambda line: None)
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        curves = {backbone: loss_curve(backbone, Path(folder, backbone)) for backbone in BACKBONES}
    FILE.write_text(json.dumps(curves, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
