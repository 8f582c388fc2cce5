"""The photo's colours on the body's mesh: what a reconstruction has to be better than."""

from collections.abc import Sequence
from functools import partial

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.required import required
from hvg.geometry.meshes import neighbours, vertex_normals
from hvg.parts.context import SceneContext
from hvg.parts.part import PartConfig
from hvg.parts.reconstructor import Reconstructor, Seen
from hvg.parts.scene import MeshImage, Renderer
from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch

from ..nn.content_cache import ContentCache
from ..nn.control_maps import box_filter
from ..people.lifted_colours import lifted_colours
from ..people.photo_body import body_in_photo, rest_shape, told_of_photo
from ..people.posed_people import mesh_of, photo_body

# Rays that are cast at once: they bound the memory, 100 bytes each.
_RAYS_AT_ONCE = 2**22


class ProjectionConfig(PartConfig):
    """Settings of the mesh and its picture."""

    outward_mm: float = Field(
        12.0,
        ge=0,
        le=1000,
        description="Millimetres by which the bare body's mesh is pushed outward, along its normals, for clothes and hair.",
    )
    supersampling: int = Field(3, ge=1, le=8, description="Rays per pixel side; alpha is their share that hits.")
    sweeps: int = Field(
        200,
        ge=0,
        le=100_000,
        description="How many edges of the mesh colours spread to where neither a vertex nor its mirror image is seen.",
    )
    kept_megabytes: int = Field(
        64,
        ge=0,
        le=10**6,
        description="Memory for colours and other things that are the same in every picture, on a CPU.",
    )


class Projection(Reconstructor[ProjectionConfig]):
    """Colours of the photo on the body's mesh, posed as the clip's body is and drawn by the renderer; nothing is learned.

    A vertex has the colour that the photo shows of it, else of its mirror image, else of what lies around it on the mesh. Colours
    keep their vertices, so photo and clip need one body model. Of several photos the first counts that shows a vertex.
    """

    requires = frozenset({"reference", "body", "body.vertices", "body.skinning", "cameras"})

    def __init__(self, config: ProjectionConfig, context: SceneContext) -> None:
        super().__init__(config, context)
        self.renderer = context.renderer
        self._kept = ContentCache(config.kept_megabytes * 2**20)

    @classmethod
    def learns(cls, config: ProjectionConfig) -> bool:
        return False

    @torch.no_grad()
    def render(
        self, batch: ClipBatch, pixels: Tensor | None = None, draws: Sequence[torch.Generator] | None = None
    ) -> Seen:
        """Raises: DataError where photo and clip have other meshes; HvgError for what is missing."""
        renderer = required(self.renderer, "Context.renderer")
        with torch.autocast(batch.cameras.intrinsics.device.type, enabled=False):
            colours = self._colours(batch, renderer)
            seen = self._drawn(batch, colours, renderer)
            colour, alpha, depth = seen[..., :3, :, :].movedim(-3, -1), seen[..., 3, :, :], seen[..., 4, :, :]
            mean = torch.where(alpha > 0, depth / alpha.clamp_min(1e-6), 0)
            whole = Seen(colour=colour, alpha=alpha, depth=mean)
            return whole if pixels is None else whole.at(pixels)

    def _colours(self, batch: ClipBatch, renderer: Renderer) -> Tensor:
        """(B, P, 3) of every clip's vertices."""
        reference = required(batch.reference, "ClipBatch.reference")
        body, cameras = photo_body(batch), required(reference.cameras, "Reference.cameras")
        vertices, faces = mesh_of(body)
        rest = required(body.skinning, "BodyMotion.skinning").rest
        photos = reference.frames.float()
        alphas = torch.ones_like(photos[:, :, :1]) if reference.alpha is None else reference.alpha.float()
        found = []
        for b, shown in enumerate(vertices.float()):
            made_of = photos[b], alphas[b], rest[b]
            make = partial(self._lifted, *made_of, shown, faces, cameras[b], renderer)
            found.append(self._kept("colours", make, *made_of, *told_of_photo(shown, cameras[b])))
        return torch.stack(found)

    def _lifted(
        self,
        photos: Tensor,
        alphas: Tensor,
        rest: Tensor,
        vertices: Tensor,
        faces: Tensor,
        cameras: Cameras,
        renderer: Renderer,
    ) -> Tensor:
        """(P, 3) of one person's vertices, which are at ``rest`` (P, 3), and in the photos at ``vertices`` (R, P, 3)."""
        pushed = _pushed(vertices, faces, self.config.outward_mm)
        shape = self._kept("rest", lambda: rest_shape(rest, faces), rest)
        edges = self._kept("edges", lambda: neighbours(faces, len(rest)), faces)
        shown = [body_in_photo(mesh, faces, cameras[r], renderer) for r, mesh in enumerate(pushed)]
        return lifted_colours(photos, alphas, shown, shape, edges, self.config.sweeps)

    def _drawn(self, batch: ClipBatch, colours: Tensor, renderer: Renderer) -> Tensor:
        """(B, V, T, 5, H, W): colour times alpha, alpha, depth times alpha, of people whose vertices have colours (B, P, 3)."""
        clips, views, frames = batch.grid
        (height, width), factor = batch.cameras.image_size, self.config.supersampling
        vertices, faces = mesh_of(required(batch.body, "ClipBatch.body"))
        fine = batch.cameras.resized((factor * height, factor * width))
        at_once = max(1, _RAYS_AT_ONCE // (height * width * factor**2))
        drawn = colours.new_zeros(clips, frames, views, 5, height, width)
        for clip in range(clips):
            # Whole frames, or some views of one.
            for moments in torch.arange(frames).split(max(1, at_once // views)):
                pushed = _pushed(vertices[clip, moments].float(), faces, self.config.outward_mm)
                for some in torch.arange(views).split(at_once):
                    moment, view = torch.cartesian_prod(moments, some).unbind(dim=1)
                    image = renderer.render(pushed, faces, fine[clip, view, moment])
                    drawn[clip, moment, view] = box_filter(_painted(image, faces, colours[clip]), factor)
        return drawn.transpose(1, 2)


def _pushed(vertices: Tensor, faces: Tensor, millimetres: float) -> Tensor:
    """Vertices (M, P, 3) moved outward."""
    return vertices + millimetres / 1000 * vertex_normals(vertices, faces)


def _painted(image: MeshImage, faces: Tensor, colours: Tensor) -> Tensor:
    """(N, 5, H, W): colour, whether there is a surface, and depth, of a mesh whose vertices have colours (P, 3)."""
    hit = image.face >= 0
    where = hit.nonzero(as_tuple=True)
    corners = colours[faces.to(image.face.device)[image.face[where]]]
    painted = image.depth.new_zeros(*image.depth.shape, 5)
    painted[(*where, slice(3))] = (corners * image.barycentric[where][..., None]).sum(dim=1)
    painted[..., 3], painted[..., 4] = hit, image.depth
    return painted.movedim(-1, 1)
