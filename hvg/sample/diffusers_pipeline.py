"""A trained model for users of diffusers.

    pipeline = HumanVideoPipeline.from_pretrained(folder)   # written by `hvg export`
    frames = pipeline("person.png", "walk.npz", camera="orbit", views=4).frames

The annotations are objects, not strings: diffusers reads them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, DiffusionPipeline, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor, nn

from hvg.config.command_options import SampleOptions
from hvg.config.composition import recompose
from hvg.config.settings import RunConfig
from hvg.config.wiring import path_of_slot
from hvg.core.checkpoint import EXPORT_INDEX
from hvg.core.eight_bit import frames_to_uint8
from hvg.core.errors import HvgError
from hvg.core.files import write_text
from hvg.geometry.motion import Motion
from hvg.model import load
from hvg.model.system import HumanVideoSystem
from hvg.sample.asked_path import camera_file
from hvg.sample.camera_paths import CameraPath
from hvg.sample.driving import asked_motion, open_driving
from hvg.sample.request import check_fields, make_clip
from hvg.values.cameras import Cameras

Photo = Image.Image | str | Path
# Components that read text.
TEXTS = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
# What opens a folder years from now is looked for at these names, wherever the classes are by then.
NAMES = {"_class_name": ["pipeline", "HumanVideoPipeline"], "model": ["hvg.pipeline", "HumanVideoModel"]}
# For `DiffusionPipeline.from_pretrained`, which knows no class of ours and takes the folder's word for it.
PIPELINE = "pipeline.py"
PIPELINE_CODE = '''"""Opened by diffusers; needs the package hvg."""

from hvg.pipeline import HumanVideoPipeline

__all__ = ["HumanVideoPipeline"]
'''


@dataclass
class HumanVideoOutput(BaseOutput):
    """frames: a list of PIL images for every view, or (V, T, 3, H, W) in [-1, 1]."""

    frames: list[list[Image.Image]] | Tensor


class HumanVideoModel(ModelMixin, ConfigMixin):
    """All trained weights of a run, and its configuration."""

    ignore_for_config = ["system"]

    @register_to_config
    def __init__(
        self, run: dict, frozen: list, precision: str | None = None, system: HumanVideoSystem | None = None
    ) -> None:
        """run: the settings, as plain values. frozen: keys of the parts whose published models lie beside this one's folder.

        precision: what the run was trained in, None where it is not known.
        """
        super().__init__()
        if system is None:
            raise HvgError("a HumanVideoModel is read from a folder: HumanVideoModel.from_pretrained(folder)")
        self.system = system
        self.settings: RunConfig | None = None

    @classmethod
    def from_pretrained(cls, path: str | Path, subfolder: str = "", torch_dtype: Any = None, **_: Any):
        """The model in ``model/`` of an export, in float32. How it is brought into memory cannot be chosen.

        Raises: HvgError for another type of numbers; CheckpointError where weights do not fit.
        """
        if torch_dtype not in (None, torch.float32):
            raise HvgError(f"torch_dtype={torch_dtype}: a HumanVideoModel computes in float32; leave torch_dtype out")
        folder = (Path(path) / subfolder).parent
        system, config = load.load_exported(folder)
        model = cls(*load.portable(config, system), load.exported_precision(folder), system=system)
        model.settings = config
        return model.eval()


class HumanVideoPipeline(DiffusionPipeline):
    """A photo, a motion and cameras in; videos out. Equal to ``hvg sample`` for the same files and seed."""

    _optional_components = ["vae", "image_encoder", "feature_extractor", *TEXTS]
    model_cpu_offload_seq = "text_encoder->text_encoder_2->image_encoder->model->vae"

    def __init__(
        self,
        model: HumanVideoModel,
        vae: nn.Module | None = None,
        image_encoder: nn.Module | None = None,
        feature_extractor=None,
        text_encoder: nn.Module | None = None,
        tokenizer=None,
        text_encoder_2: nn.Module | None = None,
        tokenizer_2=None,
    ) -> None:
        super().__init__()
        frozen = {"vae": vae, "image_encoder": image_encoder, "feature_extractor": feature_extractor}
        frozen |= dict(zip(TEXTS, (text_encoder, tokenizer, text_encoder_2, tokenizer_2), strict=True))
        load.adopt(model.system, {name: part for name, part in frozen.items() if part is not None})
        self.register_modules(model=model, **frozen)

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """As the library does; the code that lies in the folder is for ``DiffusionPipeline`` and needs no trust here."""
        config = super().load_config(*args, **kwargs)
        if isinstance(config, dict) and isinstance(config.get("_class_name"), list):
            config["_class_name"] = cls.__name__
        return config

    def save_config(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Writes the list of what the folder holds, and the code by which others open it.

        The library calls it last, before it sends the folder to a hub: that is then as ``hvg export`` writes it.
        """
        super().save_config(save_directory)
        folder = Path(save_directory)
        index = json.loads((folder / EXPORT_INDEX).read_text(encoding="utf-8"))
        write_text(folder / EXPORT_INDEX, json.dumps(index | NAMES, indent=2))
        write_text(folder / PIPELINE, PIPELINE_CODE)

    @torch.no_grad()
    def __call__(
        self,
        image: Photo | Sequence[Photo],
        motion: Motion | str | Path | None = None,
        cameras: Cameras | None = None,
        *,
        driving: str | Path | None = None,
        driving_matte: str | Path | None = None,
        prompt: str | None = None,
        task: str = "auto",
        convention: str = "auto",
        person: int | None = None,
        up: str = "auto",
        shape: str = "auto",
        reference_body: str | Path | None = None,
        reference_betas: Sequence[float] | None = None,
        reference_height: float | None = None,
        camera: str = "orbit",
        camera_up: str = "auto",
        views: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        strengths: Mapping[str, float] | None = None,
        output_type: str = "pil",
    ) -> HumanVideoOutput:
        """Videos of the person in ``image`` (cut out: with alpha), or in several, who moves as ``motion`` does.

        motion: a motion, or a file or folder of one, which ``convention``, ``person`` and ``up`` tell how to read. driving,
        driving_matte: a video in its place, or beside it, as there.
        cameras: (V, T), T 1 where they stand still. Without them ``camera`` is a preset (orbit, static, front_back) or a
        file, and ``views`` the number of views. What is None is as in training, or as the run's evaluation.
        prompt, task: for models that hear of them. Words that ``hvg sample`` has, too, are as there: shape, reference_body,
        reference_betas and reference_height say whose build the person has. strengths: slot -> how strongly the model hears
        it, 1 as in training, 0 not at all, as ``{"pose": 0.5}``.
        generator: a seed is drawn from it, in place of ``seed``. output_type: pil, or pt for (V, T, 3, H, W) in [-1, 1].
        """
        if output_type not in ("pil", "pt"):
            raise HvgError(f"output_type={output_type!r}: pil and pt are known")
        system, config = self.model.system.to(self._execution_device), self.model.settings
        words = [f"{path_of_slot(config, slot)}.strength={strength}" for slot, strength in (strengths or {}).items()]
        config = recompose(config, words) if words else config
        steps = num_inference_steps or config.evaluation.steps
        seed = config.evaluation.seed if seed is None else seed
        if generator is not None:
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        several = [image] if isinstance(image, (Image.Image, str, Path)) else [*image]
        photos = [photo if isinstance(photo, Image.Image) else Path(photo) for photo in several]
        # The names of ready values say which noise they get, as those of files do.
        paths = [photo if isinstance(photo, Path) else Path("image.png") for photo in photos]
        names: dict[str, Any] = {"checkpoint": ".", "reference": paths}
        names |= {"motion": "motion.npz" if isinstance(motion, Motion) else motion}
        names |= {"driving": driving, "driving_matte": driving_matte}
        asked = {"prompt": prompt, "camera": camera, "views": views, "frames": num_frames, "steps": steps}
        asked |= {"shape": shape, "reference_body": reference_body, "reference_betas": reference_betas}
        asked |= {"reference_height": reference_height, "camera_up": camera_up, "task": task}
        read = {"convention": convention, "person": person, "up": up}
        if isinstance(motion, Motion) and (
            told := [word for word, value in read.items() if value not in ("auto", None)]
        ):
            raise HvgError(f"{told[0]}= says how a file is read; the motion is one already")
        options = SampleOptions.model_validate(names | asked | read)
        video = open_driving(options)
        moves = motion if isinstance(motion, Motion) else asked_motion(options, video)
        check_fields(config, options)
        given = camera_file(options) if cameras is None else CameraPath(cameras=cameras, names=("",) * cameras.shape[0])
        clip, _, _ = make_clip(system, config, options, moves, given, photos, video)
        # The library's annotation of it is another method's.
        progress_bar: Any = self.progress_bar
        with progress_bar(total=steps) as bar:

            def progress(done: int, total: int) -> None:
                # Plans whose cells take turns have more steps than there are levels.
                bar.total = total
                bar.update()

            frames = system.generate(
                clip.to(system.device),
                num_steps=steps,
                seed=seed,
                progress=progress,
                windows_per_call=config.evaluation.windows_per_call,
                strengths={slot: choice.config.strength for slot, choice in config.conditioners.items()},
            )[0].cpu()
        return HumanVideoOutput(frames=frames if output_type == "pt" else _pictures(frames))


def _pictures(frames: Tensor) -> list[list[Image.Image]]:
    pixels = frames_to_uint8(frames).permute(0, 1, 3, 4, 2).numpy()
    return [[Image.fromarray(picture) for picture in view] for view in pixels]
