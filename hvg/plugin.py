"""The one import of a part of your own: interfaces by kind, their settings, the values that flow, and bases to build on.

A part says ``made_for = VERSION`` with the number that it was written against; made for another one, it is refused in a line
that names it. The number goes up with any change that breaks a part.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hvg.core.bounds import (
    Colour,
    Count,
    Depth,
    FrameCount,
    GuidanceScale,
    Heads,
    Metres,
    Scale,
    Seed,
    Side,
    Sigma,
    ViewCount,
    Weight,
    Width,
)
from hvg.core.eight_bit import alpha_from_uint8, alpha_to_uint8, frames_from_uint8, frames_to_uint8
from hvg.core.errors import ConfigError, DataError, HvgError, Problem, did_you_mean
from hvg.core.random_keys import generator, key_to_seed, numpy_generator
from hvg.core.required import required
from hvg.data.picture_files import PictureFormat
from hvg.data.recorded import Recorded
from hvg.data.recording_files import find_motion, make_tracks, masks_folder, pictures_of
from hvg.data.recordings import RecordedConfig, Recording, Track
from hvg.data.shard_writing import write_shards
from hvg.geometry.filmed_cameras import named_cameras
from hvg.geometry.given_motion import arms_at_rest
from hvg.geometry.meshes import vertex_normals
from hvg.geometry.motion import BODY_JOINTS, Motion
from hvg.geometry.motion_files import load_motion
from hvg.geometry.retargeting import follow_joints
from hvg.geometry.rotations import axis_angle, rotation_matrix
from hvg.geometry.skeleton import BONES, JOINTS, bone_radii
from hvg.parts.adapter import Adapter, LearningRate, named_weights, train_only
from hvg.parts.attention import GroupAttention, ViewMaskAttention, attend, group_attention_flops
from hvg.parts.auxiliary import AuxiliaryConditioner, AuxiliaryConfig
from hvg.parts.backbone import Backbone, DeepFeatures
from hvg.parts.context import BackboneContext, ConditionerContext, Context, SceneContext
from hvg.parts.continued import Continued
from hvg.parts.frame_metric import CellMetric, CellMetricConfig, ChangeMetric, FrameMetric
from hvg.parts.guider import Guider
from hvg.parts.keypoint_metric import KeypointMetric, KeypointMetricConfig
from hvg.parts.map_encoder import MapEncoder, stem
from hvg.parts.metric import KeypointRegressor, Metric, Score
from hvg.parts.model import Codec, Conditioner, ConditionerConfig, Prediction
from hvg.parts.noise_levels import PURE_NOISE, EdmConfig, EdmPrediction, MeanLogSigma, SpreadOfLogSigma
from hvg.parts.optimizer import AdamW, AdamWConfig, Optimizer
from hvg.parts.part import Part, PartConfig, PartName, PartsByLabel
from hvg.parts.photo_conditioner import PhotoConditioner, PhotoConfig
from hvg.parts.plan import Guidance, GuidedClips, Level, Sampler, Solver, SolverStep, Stage
from hvg.parts.pose_guided import GuidedConfig, PoseGuided, PoseGuidedConfig, PoseSignal
from hvg.parts.reconstructor import Reconstructor, Seen
from hvg.parts.refiner import RefinedStep, Refiner, RefinerConfig
from hvg.parts.registry import VERSION
from hvg.parts.scene import Alignment, BodyModel, Dataset, Fit, Holdings, MeshImage, Renderer
from hvg.parts.set_distance import Frechet, FrechetConfig, Kernel, KernelConfig
from hvg.parts.system import System
from hvg.parts.text_conditioner import TextConditioner
from hvg.parts.text_encoder import TextEncoder
from hvg.parts.view_attention import ViewAttention, ViewAttentionConfig
from hvg.parts.zero import zero_module
from hvg.values.body import BodyMotion, Skinning
from hvg.values.cameras import Cameras, look_at, orbit, pixel_rays, project
from hvg.values.clip import ClipBatch, Reference
from hvg.values.conditioning import Conditioning, ConditioningSpec, LatentShape, Ports, Site
from hvg.values.crops import Crop, Crops, rectangles
from hvg.values.grid import ViewGrid, Window
from hvg.values.latent_clip import joined
from hvg.values.latent_time import grouped_frames, latent_frames
from hvg.values.layout import fold_frames, fold_views, per_frame, unfold_frames
from hvg.values.scored_clip import REGIONS, NotAvailable, ScoredClip, Surface

if TYPE_CHECKING:
    from hvg.config.build import build_parts, build_reconstructor
    from hvg.config.settings import RunConfig
    from hvg.model.load import make_system
    from hvg.model.system import HumanVideoSystem
    from hvg.model.trained_settings import trained_settings
    from hvg.model.trained_system import Latents, TrainedSystem

# What systems take, by the module that defines it.
_FOR_SYSTEMS = {
    "HumanVideoSystem": "hvg.model.system",
    "Latents": "hvg.model.trained_system",
    "RunConfig": "hvg.config.settings",
    "TrainedSystem": "hvg.model.trained_system",
    "build_parts": "hvg.config.build",
    "build_reconstructor": "hvg.config.build",
    "make_system": "hvg.model.load",
    "trained_settings": "hvg.model.trained_settings",
}

__all__ = [
    "BODY_JOINTS",
    "BONES",
    "JOINTS",
    "PURE_NOISE",
    "REGIONS",
    "VERSION",
    "AdamW",
    "AdamWConfig",
    "Adapter",
    "Alignment",
    "AuxiliaryConditioner",
    "AuxiliaryConfig",
    "Backbone",
    "BackboneContext",
    "BodyModel",
    "BodyMotion",
    "Cameras",
    "CellMetric",
    "CellMetricConfig",
    "ChangeMetric",
    "ClipBatch",
    "Codec",
    "Colour",
    "Conditioner",
    "ConditionerConfig",
    "ConditionerContext",
    "Conditioning",
    "ConditioningSpec",
    "ConfigError",
    "Context",
    "Continued",
    "Count",
    "Crop",
    "Crops",
    "DataError",
    "Dataset",
    "DeepFeatures",
    "Depth",
    "EdmConfig",
    "EdmPrediction",
    "Fit",
    "FrameCount",
    "FrameMetric",
    "Frechet",
    "FrechetConfig",
    "GroupAttention",
    "Guidance",
    "GuidanceScale",
    "GuidedClips",
    "GuidedConfig",
    "Guider",
    "Heads",
    "Holdings",
    "HumanVideoSystem",
    "HvgError",
    "Kernel",
    "KernelConfig",
    "KeypointMetric",
    "KeypointMetricConfig",
    "KeypointRegressor",
    "LatentShape",
    "Latents",
    "LearningRate",
    "Level",
    "MapEncoder",
    "MeanLogSigma",
    "MeshImage",
    "Metres",
    "Metric",
    "Motion",
    "NotAvailable",
    "Optimizer",
    "Part",
    "PartConfig",
    "PartName",
    "PartsByLabel",
    "PhotoConditioner",
    "PhotoConfig",
    "PictureFormat",
    "Ports",
    "PoseGuided",
    "PoseGuidedConfig",
    "PoseSignal",
    "Prediction",
    "Problem",
    "Reconstructor",
    "Recorded",
    "RecordedConfig",
    "Recording",
    "Reference",
    "RefinedStep",
    "Refiner",
    "RefinerConfig",
    "Renderer",
    "RunConfig",
    "Sampler",
    "Scale",
    "SceneContext",
    "Score",
    "ScoredClip",
    "Seed",
    "Seen",
    "Side",
    "Sigma",
    "Site",
    "Skinning",
    "Solver",
    "SolverStep",
    "SpreadOfLogSigma",
    "Stage",
    "Surface",
    "System",
    "TextConditioner",
    "TextEncoder",
    "Track",
    "TrainedSystem",
    "ViewAttention",
    "ViewAttentionConfig",
    "ViewCount",
    "ViewGrid",
    "ViewMaskAttention",
    "Weight",
    "Width",
    "Window",
    "alpha_from_uint8",
    "alpha_to_uint8",
    "arms_at_rest",
    "attend",
    "axis_angle",
    "bone_radii",
    "build_parts",
    "build_reconstructor",
    "did_you_mean",
    "find_motion",
    "fold_frames",
    "fold_views",
    "follow_joints",
    "frames_from_uint8",
    "frames_to_uint8",
    "generator",
    "group_attention_flops",
    "grouped_frames",
    "joined",
    "key_to_seed",
    "latent_frames",
    "load_motion",
    "look_at",
    "make_system",
    "make_tracks",
    "masks_folder",
    "named_cameras",
    "named_weights",
    "numpy_generator",
    "orbit",
    "per_frame",
    "pictures_of",
    "pixel_rays",
    "project",
    "rectangles",
    "required",
    "rotation_matrix",
    "stem",
    "train_only",
    "trained_settings",
    "unfold_frames",
    "vertex_normals",
    "write_shards",
    "zero_module",
]


def __getattr__(name: str) -> Any:
    """What systems take is there once it is asked for: it imports what trains, for which no other part waits."""
    if name in _FOR_SYSTEMS:
        return getattr(import_module(_FOR_SYSTEMS[name]), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
