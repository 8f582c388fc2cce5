"""Camera rotation of every view relative to the first view."""

from torch import Tensor

from hvg.values.cameras import Cameras, relative_rotation

from ..nn.camera_embedding import CameraEmbedding, CameraEmbeddingConfig, number_features


class CameraRotationConfig(CameraEmbeddingConfig):
    """Settings of the camera embedding."""


class CameraRotation(CameraEmbedding[CameraRotationConfig]):
    """Fills ``embedding``: the 3x3 rotation relative to the first view, each number sinusoidal, then one linear layer, or two.

    Source: HVG (arXiv 2602.21188), section 3.2, Embeddings; translation and intrinsics are not told. The last layer
    starts at zero, which the paper leaves open. With ``network=mlp width=32`` it is the camera of Human4DiT's code (arXiv
    2405.17405).
    """

    count = 9

    def camera_features(self, cameras: Cameras, first: Cameras) -> Tensor:
        return number_features(relative_rotation(cameras, first).flatten(-2), self.config.width)
