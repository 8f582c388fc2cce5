"""Base of the conditioners that tell what the person looks like: by a photo, to all views or to the first alone."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from hvg.parts.model import Conditioner, ConditionerConfig
from hvg.values.clip import ClipBatch


class PhotoConfig(ConditionerConfig):
    """Settings of every conditioner that looks at the photo."""

    views: Literal["all", "first"] = Field(
        "all",
        description="Who is told what the photo shows. first: the first view of the clip or request alone; the others, and a "
        "window without it, get what a dropped photo gives, and hear of it from the first by view attention alone.",
    )


PhotoT = TypeVar("PhotoT", bound=PhotoConfig, default=PhotoConfig)


class PhotoConditioner(Conditioner[PhotoT]):
    """A conditioner of the reference photo, which gives the same for every view and frame that is told."""

    requires: ClassVar[frozenset[str]] = frozenset({"reference"})
    encoder_settings: ClassVar[frozenset[str]] = frozenset({"views"})
    per_clip: ClassVar[bool] = True

    def told(self, batch: ClipBatch) -> Tensor | None:
        return None if self.config.views == "all" else batch.view_grid().view_index == 0
