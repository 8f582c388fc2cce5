"""Checks that every part of a kind has to pass, for our parts and for a lab's own; no data and no body model needed.

A lab's test is two lines, a name and ``check_conditioner(MySignal, MySignal.Config(), tiny_context())``. Each check names its
promises in its docstring, and ends in an AssertionError that says which one is broken. "Every check below" are the other
functions of its module: ``python -m pydoc hvg.testing.metric`` prints those of metrics, and so of every kind.
"""

from hvg.config.tiny_run import tiny_run
from hvg.testing.adapter import check_adapter
from hvg.testing.alignment import check_alignment
from hvg.testing.backbone import check_backbone
from hvg.testing.body import check_body
from hvg.testing.building import build, nudged
from hvg.testing.codec import check_codec
from hvg.testing.conditioner import check_conditioner, ports_of
from hvg.testing.dataset import check_dataset
from hvg.testing.elsewhere import elsewhere
from hvg.testing.encoder import check_encoder
from hvg.testing.fit import check_fit
from hvg.testing.guidance import check_guidance
from hvg.testing.keypoints import check_keypoints
from hvg.testing.metric import check_metric
from hvg.testing.optimizer import check_optimizer
from hvg.testing.prediction import check_prediction
from hvg.testing.reconstructor import check_reconstructor
from hvg.testing.refiner import check_refiner
from hvg.testing.renderer import check_renderer
from hvg.testing.sampler import check_sampler
from hvg.testing.scene import (
    posed_batch,
    scene_context,
    standing_joints,
    tiny_batch,
    tiny_context,
    tiny_scored_clips,
)
from hvg.testing.signal import check_signal
from hvg.testing.solver import check_solver
from hvg.testing.system import check_system
from hvg.testing.text_encoder import check_text_encoder
from hvg.testing.view_attention import check_view_attention

__all__ = [
    "build",
    "check_adapter",
    "check_alignment",
    "check_backbone",
    "check_body",
    "check_codec",
    "check_conditioner",
    "check_dataset",
    "check_encoder",
    "check_fit",
    "check_guidance",
    "check_keypoints",
    "check_metric",
    "check_optimizer",
    "check_prediction",
    "check_reconstructor",
    "check_refiner",
    "check_renderer",
    "check_sampler",
    "check_signal",
    "check_solver",
    "check_system",
    "check_text_encoder",
    "check_view_attention",
    "elsewhere",
    "nudged",
    "ports_of",
    "posed_batch",
    "scene_context",
    "standing_joints",
    "tiny_batch",
    "tiny_context",
    "tiny_run",
    "tiny_scored_clips",
]
