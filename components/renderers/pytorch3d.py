"""Rasterisation of triangle meshes with PyTorch3D, for those who have it; held to the same goldens as ``warp``."""

import importlib.util

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hvg.core.errors import HvgError
from hvg.parts.context import Context
from hvg.parts.part import PartConfig
from hvg.parts.scene import MeshImage, Renderer
from hvg.values.cameras import Cameras


class PyTorch3D(Renderer):
    """``MeshRasterizer`` with one face per pixel, no blur and cameras from ``cameras_from_opencv_projection``.

    Raises: HvgError when the package is not installed.
    """

    def __init__(self, config: PartConfig | None = None, context: Context | None = None) -> None:
        self.config = config or self.Config()
        if importlib.util.find_spec("pytorch3d") is None:
            raise HvgError(
                "renderer=pytorch3d needs the package pytorch3d, which is not installed and has no wheel on PyPI. "
                "Use renderer=warp (the default, same output), or build it",
                then="pip install --no-build-isolation 'git+https://github.com/facebookresearch/pytorch3d.git'",
            )

    def render(self, vertices: Tensor, faces: Tensor, cameras: Cameras) -> MeshImage:
        """Surface seen at each pixel centre. vertices: (M, P, 3); M divides the number N of cameras, as in ``warp``."""
        from pytorch3d.renderer import MeshRasterizer, RasterizationSettings
        from pytorch3d.structures import Meshes
        from pytorch3d.utils import cameras_from_opencv_projection

        (num_cameras,) = cameras.shape
        if len(vertices) == 0 or num_cameras % len(vertices):
            raise ValueError(f"{len(vertices)} poses of a mesh cannot be shared out evenly to {num_cameras} cameras")
        vertices = vertices.detach().float().repeat_interleave(num_cameras // len(vertices), dim=0)
        faces = faces.to(vertices.device)
        cameras = cameras.to(device=vertices.device, dtype=torch.float32)
        rotation, translation = cameras.world_to_camera[:, :3, :3], cameras.world_to_camera[:, :3, 3]
        size = torch.tensor(cameras.image_size, device=vertices.device).expand(num_cameras, 2)
        rasterizer = MeshRasterizer(
            cameras=cameras_from_opencv_projection(rotation, translation, cameras.intrinsics, size),
            raster_settings=RasterizationSettings(
                image_size=cameras.image_size, blur_radius=0.0, faces_per_pixel=1, bin_size=0
            ),
        )
        meshes = Meshes(verts=vertices, faces=faces.expand(num_cameras, -1, -1))
        fragments = rasterizer(meshes)
        packed = fragments.pix_to_face[..., 0]
        hit = packed >= 0
        corner_normals = meshes.verts_normals_packed()[meshes.faces_packed()[packed.clamp_min(0)]]
        weights = fragments.bary_coords[..., 0, :]
        in_world = (weights[..., None] * corner_normals).sum(-2)
        normal = normalize(torch.einsum("nij,nhwj->nhwi", rotation, in_world), dim=-1)
        return MeshImage(
            face=torch.where(hit, packed % len(faces), -1),
            barycentric=weights * hit[..., None],
            depth=fragments.zbuf[..., 0] * hit,
            normal=normal * hit[..., None],
        )
