"""``hvg export``: a trained model as a folder that diffusers opens, or what it has added to a network as a LoRA file.

The folder is a diffusers pipeline: ``model/`` holds the run's configuration and all trained weights, ``vae/``,
``image_encoder/`` and ``feature_extractor/`` the published models that the run uses and does not train. Weights are
safetensors, in float32 or half as large. ``hvg sample`` and ``hvg evaluate`` take the folder as ``checkpoint=``.
"""

from collections.abc import Callable, Iterator

import torch
from safetensors.torch import save_file
from torch import nn

from hvg.config.build import build_part
from hvg.config.command_options import ExportOptions
from hvg.config.settings import RunConfig
from hvg.core import outputs
from hvg.core.checkpoint import find_checkpoint
from hvg.core.errors import HvgError
from hvg.core.files import whole_folder
from hvg.model.load import as_video_model, frozen_models, load_system, merged, portable, trained_precision
from hvg.model.system import HumanVideoSystem
from hvg.sample.diffusers_pipeline import HumanVideoModel, HumanVideoPipeline

DTYPES = {"float32": torch.float32, "float16": torch.float16}
# The name that diffusers looks for.
LORA_FILE = "pytorch_lora_weights.safetensors"


def export(options: ExportOptions, change: Callable[[RunConfig], RunConfig] = lambda config: config) -> Iterator[str]:
    """Writes the folder, whole or not at all; yields lines for the user. change: as of ``hvg.model.load.load_system``.

    Raises: HvgError where ``out`` exists, or what the run has added to layers is asked for and it has added nothing;
    CheckpointError where the checkpoint is of no video model.
    """
    outputs.try_folder(options.out, "out")
    if options.out.exists():
        raise HvgError(f"out={options.out}: exists already; give the name of a new folder")
    # It belongs to no machine: neither this one nor that of the training need be like the one that opens it.
    found, config = load_system(
        options.checkpoint, options.weights, lambda config: change(config.model_copy(update={"device": "auto"}))
    )
    system = as_video_model(found, config, options.checkpoint)
    if options.adapter == "file":
        yield from _write_file(options, config, system)
        return
    config = merged(config, system)
    run, frozen = portable(config, system)
    precision = trained_precision(find_checkpoint(options.checkpoint))
    keep_as(system.cpu(), DTYPES[options.dtype])
    pipeline = HumanVideoPipeline(HumanVideoModel(run, frozen, precision, system=system), **frozen_models(system))
    with whole_folder(options.out) as partial:
        pipeline.save_pretrained(partial, max_shard_size="5GB")
    folders = ", ".join(f"{path.name}/" for path in sorted(options.out.iterdir()) if path.is_dir())
    yield f"wrote {folders} to {options.out}"
    yield f"open it with hvg.pipeline.HumanVideoPipeline.from_pretrained('{options.out}'), or as checkpoint={options.out}"


def keep_as(system: nn.Module, dtype: torch.dtype) -> None:
    """Makes every weight of a system one of ``dtype``. Raises: HvgError for a number that this type does not hold."""
    for name, weight in system.named_parameters():
        kept = weight.detach().to(dtype)
        if not kept.isfinite().all():
            word = str(dtype).removeprefix("torch.")
            raise HvgError(f"dtype={word} does not hold the numbers of {name}; leave it out")
        weight.data = kept


def _write_file(options: ExportOptions, config: RunConfig, system: HumanVideoSystem) -> Iterator[str]:
    """Writes what the run has added to the backbone's layers, as a LoRA file."""
    tensors = build_part(config.adapter).file(system.backbone)
    with whole_folder(options.out) as partial:
        save_file(tensors, partial / LORA_FILE, metadata={"format": "pt"})
    yield f"wrote {len(tensors) // 2} layers to {options.out / LORA_FILE}"
    trained = sum(weight.numel() for weight in system.parameters() if weight.requires_grad)
    rest = trained - sum(x.numel() for x in tensors.values())
    if rest:
        yield (
            f"not in it: {rest:,} other weights that were trained, such as those of conditioners, for which diffusers has "
            "no place; adapter=merged writes all"
        )
