"""All twelve numbers of where a camera is, relative to the first view."""

from pydantic import Field
from torch import Tensor

from hvg.core.bounds import Metres
from hvg.values.cameras import Cameras

from ..nn.camera_embedding import CameraEmbedding, CameraEmbeddingConfig, camera_numbers, number_features


class CameraMatrixConfig(CameraEmbeddingConfig):
    """Settings of the camera's matrix."""

    scale: Metres = Field(
        4.0, description="Metres; translations are divided by it, so that they are of the size of a rotation's numbers."
    )


class CameraMatrix(CameraEmbedding[CameraMatrixConfig]):
    """Fills ``embedding``: rotation and translation from the first view's camera to this one, 12 numbers, then a network.

    x_here = R x_first + scale t. So it tells of cameras that come nearer or move aside, which ``camera_rotation`` does not;
    lenses are not told.

    Source: the camera encoder in 4DAnyone's code (arXiv 2608.20335, ``wan_video_dit.py``), one linear layer of 12 numbers that
    starts at zero; ``width=0`` is that. We differ: relative to the first view, translations scaled, sinusoids by default.
    """

    count = 12

    def camera_features(self, cameras: Cameras, first: Cameras) -> Tensor:
        numbers = camera_numbers(cameras.world_to_camera, first.world_to_camera, self.config.scale)
        return number_features(numbers, self.config.width)
