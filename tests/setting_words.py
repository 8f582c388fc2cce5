"""Configurations drawn from the schema itself: any setting of any part, with values that it means and values that nobody means.

They are words of the command line, as somebody types them.
"""

import math
import types
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Len, Lt, MaxLen, MinLen, MultipleOf
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hvg.config.chosen_parts import root_choices
from hvg.config.groups import all_options, option_values
from hvg.config.settings import SINGLE_PARTS, SLOTS, Settings
from hvg.parts import registry

# Choices of groups that no machine without downloads can run, and those that are whole experiments or other sizes.
ELSEWHERE = {
    "appearance": {"reference_latent_svd", "reference_pictures"},
    "backbone": {"svd_xt", "svd_mid", "wan_mid", "wan_1_3b", "wan_5b", "wan_14b", "flux_mid", "flux_kontext"},
    "codec": {"svd_vae", "wan_vae", "flux_vae"},
    "dataset": {
        *("shards", "synthetic_paper", "synthetic_gpu", "multiview", "monocular"),
        *("thuman", "custom_humans", "two_k2k", "mvhumannet", "mvhumannet_pp", "tiktok"),
        *("mixture", "mixture_synthetic"),
    },
    "image_embedding": {"clip_image"},
    "renderer": {"pytorch3d"},
    "prediction": set(),
    "reconstruction": {"nerf", "files"},
    "sampler": {"progressive_gpu", "progressive_paper"},
}
GROUPS = tuple(group for group in (*SINGLE_PARTS, *SLOTS) if group not in ("body", "system", "reconstructor"))
# Where runs of this process lie, what is continued, and how many machines there are, is not for settings to say here.
APART = {"output", "name", "resume", "resume_changes", "resume_world", "checkpoint", "logger", "device", "protocol"}
# Metrics that need no network.
METRICS = (
    "psnr",
    "ssim",
    "l1",
    "mask_iou",
    "dtssd",
    "dvssd",
    "drift",
    "temporal_warp",
    "cross_view",
    "identity_colour",
)
NUMBERS = (-1, 0, 1, 2, 3, 1000, 10**12, 2**63, 10**400)
HOSTILE = (
    *NUMBERS, *(-0.0, 1e-320, 1e-30, 0.5, -0.5, 1e30, 1e300, math.nan, math.inf, -math.inf),
    *(True, None, "", "x", "a/../b", "${seed}", "0", "nan", [], [0], [-1, -1], [math.nan], ["x"], [[1]], {}, {"x": 1}),
)  # fmt: skip


def word(key: str, value: Any) -> str:
    """``key=value`` in Hydra's grammar."""
    return f"{key}={_written(value)}"


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_written(inner)}" for key, inner in value.items()) + "}"
    text = str(value).replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{text}'"


@cache
def settings_of_run() -> Mapping[str, FieldInfo]:
    """Key -> setting, of all that is no part."""
    return dict(_leaves(Settings, ""))


@cache
def settings_of_part(kind: str, name: str) -> Mapping[str, FieldInfo]:
    """The settings of a part by name."""
    return dict(registry.load(kind, name).Config.model_fields)


def _leaves(model: type[BaseModel], path: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if not path and name in APART:
            continue
        key = f"{path}.{name}" if path else name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, key)
        else:
            yield key, field


@cache
def _options(group: str) -> tuple[str, ...]:
    return tuple(option for option in all_options()[group] if option not in ELSEWHERE.get(group, ()))


@st.composite
def configurations(draw: st.DrawFn, most: int = 3) -> list[str]:
    """Up to ``most`` groups chosen anew, and up to ``most`` settings of what is then there, changed."""
    chosen = {group: draw(st.sampled_from(_options(group))) for group in draw(_some(GROUPS, most))}
    words = [f"{group}={option}" for group, option in chosen.items()]
    fields, defaults = dict(settings_of_run()), root_choices()
    for group in GROUPS:
        option = chosen.get(group) or defaults[group]
        kind = SINGLE_PARTS.get(group, "conditioner")
        name = option_values(group, option).get("name")
        if name is not None:
            fields |= {f"{group}.{key}": field for key, field in settings_of_part(kind, str(name)).items()}
    for label in draw(_some(METRICS, 1)):
        words.append(f"+protocol.metrics.fuzzed.name={label}")
        fields |= {f"+protocol.metrics.fuzzed.{key}": field for key, field in settings_of_part("metric", label).items()}
    for key in draw(_some(sorted(fields), most)):
        words.append(word(key, draw(values(fields[key]))))
    return words


def _some(items: Any, most: int) -> st.SearchStrategy:
    return st.lists(st.sampled_from(list(items)), max_size=most, unique=True)


def values(field: FieldInfo) -> st.SearchStrategy:
    """What a setting means, twice as often as what it does not; and lists of both."""
    meant = _meant(field.annotation, field.metadata)
    return st.one_of(
        meant, meant, st.sampled_from(HOSTILE), st.lists(st.one_of(meant, st.sampled_from(HOSTILE)), max_size=3)
    )


def _meant(annotation: Any, metadata: Any = ()) -> st.SearchStrategy:
    """Values that a type allows."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        spread = [found for mark in more for found in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]
        return _meant(inner, [*spread, *metadata])
    if get_origin(annotation) in (Union, types.UnionType):
        return st.one_of([_meant(inner, metadata) for inner in get_args(annotation)])
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if get_origin(annotation) is tuple:
        inner = get_args(annotation)
        if inner[-1] is not ...:
            return st.tuples(*map(_meant, inner)).map(list)
        low, high = _lengths(metadata)
        return st.lists(_meant(inner[0]), min_size=low, max_size=min(high, low + 3))
    if annotation in (int, float):
        return _numbers(annotation, metadata)
    if annotation is bool:
        return st.booleans()
    if annotation in (None, type(None)):
        return st.none()
    if annotation in (str, Path):
        return st.sampled_from(["x", "walk", "train", "", "no/such/file"])
    return st.just({})


def _lengths(metadata: Any) -> tuple[int, int]:
    low, high = 0, 100
    for mark in metadata:
        low = max(low, getattr(mark, "min_length", None) or 0) if isinstance(mark, (MinLen, Len)) else low
        high = min(high, getattr(mark, "max_length", None) or high) if isinstance(mark, (MaxLen, Len)) else high
    return low, high


def _numbers(kind: type, metadata: Any) -> st.SearchStrategy:
    """Numbers within bounds: the bounds themselves, small ones, and any."""
    low, high, step = -1e9, 1e9, 1
    for mark in metadata:
        if isinstance(mark, (Ge, Gt)):
            low = max(low, float(getattr(mark, "ge", None) if isinstance(mark, Ge) else mark.gt))
        elif isinstance(mark, (Le, Lt)):
            high = min(high, float(getattr(mark, "le", None) if isinstance(mark, Le) else mark.lt))
        elif isinstance(mark, MultipleOf):
            step = mark.multiple_of
    if kind is float:
        return st.one_of(st.sampled_from([low, high]), st.floats(low, high), st.floats(low, min(high, low + 1)))
    first, last = math.ceil(low / step), math.floor(high / step)
    small = st.integers(first, min(last, first + 8))
    return st.one_of(st.sampled_from([first, last]), small, small, st.integers(first, last)).map(lambda x: x * step)
