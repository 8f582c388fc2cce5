"""Types of numeric settings, with the bounds between which a value means something and a machine can follow."""

from typing import Annotated

from pydantic import AfterValidator, Field

# Steps of a run, of a solver and between two events; clips, subjects and other things that are only counted.
Count = Annotated[int, Field(ge=1, le=10**9)]
CountFromZero = Annotated[int, Field(ge=0, le=10**9)]
SolverSteps = Annotated[int, Field(ge=1, le=10_000)]
# Clips in a batch, batches in a step.
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
# Processes, threads or devices of one machine.
ProcessCount = Annotated[int, Field(ge=1, le=1024)]
ProcessCountFromZero = Annotated[int, Field(ge=0, le=1024)]
MachineCount = Annotated[int, Field(ge=1, le=65_536)]
# A seed of torch, which knows none that are longer.
Seed = Annotated[int, Field(ge=0, lt=2**63)]

# Sizes of a clip, or of a part of it that is seen at once.
ViewCount = Annotated[int, Field(ge=1, le=1024)]
FrameCount = Annotated[int, Field(ge=1, le=65_536)]
FrameCountFromZero = Annotated[int, Field(ge=0, le=65_536)]
# A side of a picture, in pixels.
Side = Annotated[int, Field(ge=1, le=8192)]
FramesPerSecond = Annotated[float, Field(gt=0, le=1000)]
# A component of an sRGB colour.
Colour = Annotated[float, Field(ge=0, le=1)]

# Channels of a layer, attention heads, and how often a layer is repeated.
Width = Annotated[int, Field(ge=1, le=65_536)]
Heads = Annotated[int, Field(ge=1, le=1024)]
Depth = Annotated[int, Field(ge=1, le=64)]

# A factor by which something is enlarged: a body, a latent, a score.
Scale = Annotated[float, Field(ge=1e-4, le=1e4)]
# How strongly something counts, 0: not at all.
Weight = Annotated[float, Field(ge=0, le=1e6)]
# How much an average keeps of what it was.
Average = Annotated[float, Field(ge=0, lt=1)]
# A noise level.
Sigma = Annotated[float, Field(ge=1e-6, le=1e6)]
GuidanceScale = Annotated[float, Field(ge=0, le=1000)]
# Degrees above the horizontal, and a range of them.
Elevation = Annotated[float, Field(ge=-89, le=89)]


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"expected the lower bound first, got {list(bounds)}")
    return bounds


Elevations = Annotated[tuple[Elevation, Elevation], AfterValidator(_rising)]
Metres = Annotated[float, Field(ge=1e-6, le=1e6)]
