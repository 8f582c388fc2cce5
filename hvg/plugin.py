"""The one import of a part of your own: interfaces by kind, their settings, the values that flow, and bases to build on.

A part says ``made_for = VERSION`` with the number that it was written against; made for another one, it is refused in a line
that names it. The number goes up with any change that breaks a part.
"""

from typing import TYPE_CHECKING, Any

from hvg.core.bounds import Colour, Count, FrameCount, Metres, Scale, Side, ViewCount, Weight, Width
from hvg.core.errors import ConfigError, DataError, HvgError, Problem
from hvg.core.random_keys import generator, key_to_seed, numpy_generator
from hvg.core.required import required
from hvg.data.picture_files import PictureFormat
from hvg.data.recorded import Recorded
from hvg.data.recording_files import find_motion, make_tracks, masks_folder, pictures_of
from hvg.data.recordings import RecordedConfig, Recording, Track
from hvg.data.shard_writing import write_shards
from hvg.geometry.filmed_cameras import named_cameras
from hvg.geometry.motion_files import load_motion
from hvg.geometry.skeleton import JOINTS, bone_radii
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
from hvg.parts.noise_levels import PURE_NOISE, EdmConfig, EdmPrediction
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
    from hvg.model.trained_system import TrainedSystem

__all__ = [
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
    "EdmConfig",
    "EdmPrediction",
    "Fit",
    "FrameCount",
    "FrameMetric",
    "Frechet",
    "FrechetConfig",
    "GroupAttention",
    "Guidance",
    "GuidedClips",
    "GuidedConfig",
    "Guider",
    "Holdings",
    "HvgError",
    "Kernel",
    "KernelConfig",
    "KeypointMetric",
    "KeypointMetricConfig",
    "KeypointRegressor",
    "LatentShape",
    "LearningRate",
    "Level",
    "MapEncoder",
    "MeshImage",
    "Metres",
    "Metric",
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
    "Sampler",
    "Scale",
    "SceneContext",
    "Score",
    "ScoredClip",
    "Seen",
    "Side",
    "Site",
    "Skinning",
    "Solver",
    "SolverStep",
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
    "attend",
    "bone_radii",
    "find_motion",
    "fold_frames",
    "fold_views",
    "generator",
    "group_attention_flops",
    "grouped_frames",
    "joined",
    "key_to_seed",
    "latent_frames",
    "load_motion",
    "look_at",
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
    "stem",
    "train_only",
    "unfold_frames",
    "write_shards",
    "zero_module",
]


def __getattr__(name: str) -> Any:
    """``TrainedSystem`` is there once it is asked for: it imports what trains, for which no other part waits."""
    if name == "TrainedSystem":
        from hvg.model.trained_system import TrainedSystem

        return TrainedSystem
    raise AttributeError(f"module {__name__} has no attribute {name}")
