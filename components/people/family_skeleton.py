"""What of a body of the SMPL family is computed without its mesh: people at rest, bones, and points on the mesh."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvg.geometry.body_files import BodyFile
from hvg.geometry.body_parameters import BodyParameters
from hvg.geometry.rotations import rotation_matrix
from hvg.values.body import Skinning

# People at rest that are kept.
_KEPT = 4
# Points on the face that SMPL-X's file places on its mesh; the package names them after 21 vertices of face, feet and fingertips.
_LANDMARKS = 51


@dataclass(frozen=True)
class RestPeople:
    """T people at rest in the model's own axes, metres: joints (T, J, 3), the height of their soles and of their tops (T,).

    vertices: (P, 3), of the first one.
    """

    joints: Tensor
    soles: Tensor
    tops: Tensor
    vertices: Tensor


class FamilySkeleton:
    """Bones of a model, and what rides on them."""

    def __init__(self, file: BodyFile) -> None:
        self.file = file
        self._known: dict[bytes, RestPeople] = {}

    @cached_property
    def weights(self) -> tuple[Tensor, Tensor]:
        """As of ``Skinning.sparse``."""
        return Skinning.sparse(torch.from_numpy(self.file.arrays["weights"]).float())

    @cached_property
    def _mean(self) -> Tensor:
        """(P, 3)."""
        return torch.from_numpy(self.file.arrays["v_template"]).float()

    @cached_property
    def _directions(self) -> Tensor:
        """(P, 3, S)."""
        return torch.from_numpy(self.file.arrays["shapedirs"][:, :, : self.file.num_betas]).float()

    def rest(self, betas: Tensor) -> RestPeople:
        """People with betas (T, up to S) at rest; the last few are kept, since a body asks several times for one."""
        key = betas.numpy().tobytes()
        if key not in self._known:
            vertices = self._mean + torch.einsum("pcs,ts->tpc", self._directions[:, :, : betas.shape[1]], betas)
            heights = vertices[..., 1]
            if len(self._known) == _KEPT:
                self._known.clear()
            joints = self.file.rest_joints(betas)
            self._known[key] = RestPeople(joints, heights.amin(-1), heights.amax(-1), vertices[0].clone())
        return self._known[key]

    def turned(self, body: BodyParameters, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Global rotations (T, J, 3, 3) and joints (T, J, 3), without scale and translation. rest: (T or 1, J, 3)."""
        still, parents = torch.zeros(1, 3), self.file.arrays["kintree_table"][0].astype(np.int64)
        local = [rotation_matrix(body.rotations.get(joint, still)) for joint in self.file.joints]
        turned = [local[0].expand(body.num_frames, 3, 3)]
        places = [rest[:, 0].expand(body.num_frames, 3)]
        for joint in range(1, len(local)):
            parent = int(parents[joint])
            bone = rest[:, joint] - rest[:, parent]
            places.append(places[parent] + (turned[parent] @ bone[..., None])[..., 0])
            turned.append(turned[parent] @ local[joint])
        return torch.stack(turned, dim=1), torch.stack(places, dim=1)

    @cached_property
    def points(self) -> tuple[str, ...]:
        """Names of the points of SMPL-X's face, hands and feet that the package gives beside joints, where the file has them."""
        from smplx.joint_names import JOINT_NAMES

        with_face = len(self.file.arrays.get("lmk_faces_idx", ())) == _LANDMARKS
        return tuple(JOINT_NAMES[len(self.file.joints) :][: 21 + _LANDMARKS]) if with_face else ()

    @cached_property
    def _corners(self) -> tuple[Tensor, Tensor]:
        """Vertices (N, 3) between which the points lie, and their weights (N, 3)."""
        from smplx.vertex_ids import vertex_ids
        from smplx.vertex_joint_selector import VertexJointSelector

        single: Any = VertexJointSelector(vertex_ids=vertex_ids["smplx"]).extra_joints_idxs
        faces = torch.from_numpy(self.file.arrays["f"].astype(np.int64))
        of_face = faces[torch.from_numpy(self.file.arrays["lmk_faces_idx"].astype(np.int64))]
        weights = torch.from_numpy(self.file.arrays["lmk_bary_coords"]).float()
        alone = torch.tensor([1.0, 0.0, 0.0]).expand(len(single), 3)
        return torch.cat([single[:, None].expand(-1, 3), of_face]), torch.cat([alone, weights])

    def on_mesh(self, betas: Tensor, expression: Tensor, turned: Tensor, carried: Tensor) -> Tensor:
        """The points (T, N, 3), by skinning the vertices around them alone; without scale and translation.

        turned: (T, J, 3, 3) and carried: (T, J, 3), of the bones' transforms from rest.
        """
        if not self.points:
            return torch.zeros(len(turned), 0, 3)
        corners, share = self._corners
        picked = corners.flatten().numpy()
        arrays = {name: torch.from_numpy(self.file.arrays[name][picked]).float() for name in ("posedirs", "weights")}
        face = torch.from_numpy(self.file.arrays["shapedirs"][picked][:, :, self.file.num_betas :]).float()
        rest = self._mean[picked] + torch.einsum("pcs,ts->tpc", self._directions[picked], betas)
        rest = rest + torch.einsum("pce,te->tpc", face[:, :, : self.file.num_expressions], expression)
        parents = self.file.arrays["kintree_table"][0, 1:].astype(np.int64)
        bent = (turned[:, parents].mT @ turned[:, 1:] - torch.eye(3)).flatten(1)
        rest = rest + torch.einsum("pcr,tr->tpc", arrays["posedirs"], bent)
        turns = torch.einsum("pj,tjab->tpab", arrays["weights"], turned)
        skinned = (turns @ rest[..., None])[..., 0] + torch.einsum("pj,tja->tpa", arrays["weights"], carried)
        return (share[..., None] * skinned.unflatten(1, (-1, 3))).sum(dim=2)
