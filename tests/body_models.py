"""Body models of the SMPL family in the true file format, filled with a body of our own."""

import contextlib
import io
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from hvg.geometry.body_files import FAMILY_JOINTS, FAMILY_VERTICES
from hvg.geometry.body_parameters import POSES
from hvg.geometry.motion import Motion
from hvg.geometry.skeleton import JOINTS
from hvg.testing.scene import standing_joints

# Directions of shape and, of SMPL-X, expression: as many as the published files have.
DIRECTIONS = {"smpl": 10, "smplh": 16, "smplx": 400}
# Parents by name; fingers, jaw and eyes are chains that begin at a wrist or the head.
_PARENTS = {
    "spine1": "pelvis", "spine2": "spine1", "spine3": "spine2", "neck": "spine3", "head": "neck",
    "jaw": "head", "left_eye_smplhf": "head", "right_eye_smplhf": "head",
}  # fmt: skip
_CHAINS = {"hip": "pelvis", "knee": "hip", "ankle": "knee", "foot": "ankle", "collar": "spine3", "shoulder": "collar",
           "elbow": "shoulder", "wrist": "elbow", "hand": "wrist"}  # fmt: skip


def parent_of(joint):
    """Name of the joint that another turns with; None for the pelvis."""
    if joint == "pelvis":
        return None
    if joint in _PARENTS:
        return _PARENTS[joint]
    side, _, name = joint.partition("_")
    if name[-1].isdigit():
        return f"{side}_wrist" if name[-1] == "1" else f"{side}_{name[:-1]}{int(name[-1]) - 1}"
    above = _CHAINS[name]
    return above if above in ("pelvis", "spine3") else f"{side}_{above}"


def rest_places(family, rng):
    """(J, 3), metres: a standing person, not centred, as the true models are not."""
    known = dict(zip(JOINTS, standing_joints().numpy(), strict=True))
    places = {}
    for joint in FAMILY_JOINTS[family]:
        near = known.get(joint)
        places[joint] = near if near is not None else places[parent_of(joint)] + rng.normal(0, 0.03, 3)
    return np.stack(list(places.values())) + np.array([0.003, -1.3, 0.02])


def body_model(family, directions, *, mean_within=45, seed=0, dtype=np.float32):
    """Name -> array, as in the published .npz files. mean_within: components of which the mean hand is made."""
    rng = np.random.default_rng(seed)
    joints, vertices = FAMILY_JOINTS[family], FAMILY_VERTICES[family]
    places = rest_places(family, rng)
    owner = rng.integers(0, len(joints), vertices)
    owner[: len(joints)] = np.arange(len(joints))
    template = places[owner] + rng.normal(0, 0.05, (vertices, 3))
    weights = np.zeros((vertices, len(joints)))
    for k in range(3):
        weights[np.arange(vertices), (owner + k) % len(joints)] += rng.uniform(0.1, 1.0, vertices)
    regressor = np.zeros((len(joints), vertices))
    for joint in range(len(joints)):
        near = np.flatnonzero(owner == joint)[:8]
        regressor[joint, near] = rng.dirichlet(np.ones(len(near)))
    arrays = {
        "v_template": template,
        "f": rng.integers(0, vertices, (2 * vertices, 3)).astype(np.uint32),
        "weights": weights / weights.sum(1, keepdims=True),
        "posedirs": rng.normal(0, 1e-3, (vertices, 3, 9 * (len(joints) - 1))),
        "shapedirs": rng.normal(0, 0.01, (vertices, 3, directions)),
        "J_regressor": regressor,
        "kintree_table": np.array(
            [[0, *(joints.index(parent_of(joint)) for joint in joints[1:])], list(range(len(joints)))], dtype=np.int64
        ),
    }
    if family != "smpl":
        for side in "lr":
            components = np.linalg.qr(rng.normal(size=(45, 45)))[0]
            arrays[f"hands_components{side}"] = components
            arrays[f"hands_mean{side}"] = rng.normal(0, 0.3, mean_within) @ components[:mean_within]
    if family == "smplx":
        corners = rng.uniform(size=(51, 3))
        arrays["lmk_faces_idx"] = rng.integers(0, 2 * vertices, 51)
        arrays["lmk_bary_coords"] = corners / corners.sum(1, keepdims=True)
        arrays["dynamic_lmk_faces_idx"] = rng.integers(0, 2 * vertices, (79, 17))
        arrays["dynamic_lmk_bary_coords"] = rng.uniform(size=(79, 17, 3))
    return {name: x.astype(dtype) if x.dtype == np.float64 else x for name, x in arrays.items()}


# Radians by which the joints of a relaxed finger are bent, outwards; and a thumb's.
RELAXED, RELAXED_THUMB = (0.5, 0.7, 0.4), (0.1, 0.1, 0.1)


def person_model(family, directions=20, seed=0, fingers=False):
    """As ``body_model``, in the shape of Anny's mean person, so that pictures of it show one; betas change height and girth.

    fingers: whether hands have fingers that move, flat at rest; the mean hand is then a relaxed one, and the first component.
    """
    from components.bodies.anny import DRIVEN, Anny, _topology

    joints, count = FAMILY_JOINTS[family], FAMILY_VERTICES[family]
    stand = Anny().animate(Motion(rotations={"pelvis": torch.zeros(1, 3)}))
    vertices, faces = stand.vertices[0, 0].numpy().astype(np.float64), stand.faces.numpy()
    blend = _topology()[1].numpy()
    kept, faces = _collapsed(faces, len(vertices), count, np.random.default_rng(seed))
    weights = np.zeros((count, len(joints)))
    for column, joint in enumerate((*DRIVEN, "left_elbow", "right_elbow")):
        weights[:, joints.index(joint)] += blend[kept, column]
    model = body_model(family, directions, seed=seed)
    places = dict(zip(stand.joint_names, stand.joints[0, 0].numpy(), strict=True))
    known = {**places, **{f"{side}_hand": places[f"{side}_middle1"] for side in ("left", "right")}}
    if fingers:
        own, knuckles = _fingers(stand)
        for joint, weight in own.items():
            weights[:, joints.index(joint)] = weight[kept]
            weights[:, joints.index(f"{joint.partition('_')[0]}_wrist")] -= weight[kept]
        known |= knuckles
        model |= _relaxed_hands(knuckles)
    origin = np.array([0.003, -1.3, 0.02])
    vertices = vertices[kept]
    regressor = np.zeros((len(joints), count))
    for row, joint in enumerate(joints):
        place = known.get(joint, known["head"] if parent_of(joint) == "head" else None)
        place = known[f"{joint.split('_')[0]}_middle1"] if place is None else place
        near = np.argsort(((vertices - place) ** 2).sum(1))[:60]
        regressor[row, near] = np.linalg.lstsq(np.vstack([vertices[near].T, np.ones(60)]), [*place, 1], rcond=None)[0]
    # Standard deviations of grown people: some 4 % of height and 8 % of girth.
    shapes = np.zeros((count, 3, directions))
    shapes[:, 1, 0] = 0.04 * vertices[:, 1]
    shapes[:, 2, 1] = 0.08 * vertices[:, 2]
    person = {
        "v_template": vertices + origin,
        "f": faces,
        "weights": weights,
        "J_regressor": regressor,
        "shapedirs": shapes,
    }
    person["posedirs"] = np.zeros_like(model["posedirs"])
    return {k: x.astype(np.float32) if x.dtype == np.float64 else x for k, x in {**model, **person}.items()}


def _fingers(stand):
    """SMPL-X's finger joint -> weight of every vertex of Anny's, and where it is in her T-pose (3,)."""
    from components.bodies.anny import _model
    from hvg.geometry.motion import Z_UP_TO_Y_UP

    model, skinning = _model(), stand.skinning
    labels, weights = list(model.bone_labels), torch.zeros(len(model.vertex_bone_indices), len(model.bone_labels))
    weights.scatter_add_(1, model.vertex_bone_indices.long(), model.vertex_bone_weights.float())
    rest = model(phenotype_kwargs={name: torch.tensor([0.5]) for name in model.phenotype_labels})
    heads = rest["rest_bone_heads"][0].float() @ Z_UP_TO_Y_UP.mT
    heads = heads - heads[labels.index("root")]
    own, places = {}, {}
    for side in ("left", "right"):
        wrist = skinning.transforms[0, 0, skinning.bones.index(f"{side}_wrist")]
        for number, finger in enumerate(("thumb", "index", "middle", "ring", "pinky"), 1):
            for part in (1, 2, 3):
                bone = labels.index(f"finger{number}-{part}.{side[0].upper()}")
                own[f"{side}_{finger}{part}"] = weights[:, bone].numpy().astype(np.float64)
                places[f"{side}_{finger}{part}"] = (wrist[:3, :3] @ heads[bone] + wrist[:3, 3]).numpy()
    return own, places


def _relaxed_hands(knuckles):
    """The mean hand and components of each side; palms look down, and fingers bend that way. knuckles: joint -> (3,)."""
    arrays = {}
    for joints, side in ((POSES["left_hand_pose"], "l"), (POSES["right_hand_pose"], "r")):
        mean = np.zeros((15, 3))
        for row, joint in enumerate(joints):
            along = knuckles[f"{joint[:-1]}3"] - knuckles[f"{joint[:-1]}1"]
            axis = np.cross(along, [0.0, -1.0, 0.0])
            angles = RELAXED_THUMB if "thumb" in joint else RELAXED
            mean[row] = angles[int(joint[-1]) - 1] * axis / np.linalg.norm(axis)
        others = np.random.default_rng(0).normal(size=(45, 44))
        components = np.linalg.qr(np.column_stack([mean.reshape(-1), others]))[0].T
        components[0] = mean.reshape(-1) / np.linalg.norm(mean)
        arrays |= {f"hands_mean{side}": mean.reshape(-1), f"hands_components{side}": components}
    return arrays


def _collapsed(faces, vertices, count, rng):
    """Edges are drawn together until ``count`` vertices are left: numbers of those, and faces in new numbers."""
    target, left = np.arange(vertices), vertices
    while left > count:
        now = target[faces]
        touched = np.zeros(vertices, bool)
        edges = np.unique(np.sort(np.concatenate([now[:, [0, 1]], now[:, [1, 2]]]), axis=1), axis=0)
        for a, b in rng.permutation(edges[edges[:, 0] != edges[:, 1]]):
            if left > count and not (touched[a] or touched[b]):
                target[target == b] = a
                touched[[a, b]] = True
                left -= 1
    kept = np.unique(target)
    number = np.zeros(vertices, np.int64)
    number[kept] = np.arange(count)
    faces = number[target[faces]]
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return kept, faces[whole].astype(np.uint32)


def write_body_model(path, family, directions, **options):
    """Writes one; gives its arrays."""
    arrays = body_model(family, directions, **options)
    np.savez(path, allow_pickle=True, **arrays)
    return arrays


def write_family(folder):
    """Writes a neutral one of every family."""
    for family, directions in DIRECTIONS.items():
        write_body_model(folder / f"{family.upper()}_NEUTRAL.npz", family, directions)


def given_parameters(family, rng, hand=45, frames=3):
    """By the package's words, every frame another; large turns of the whole, small ones of joints."""
    words = {word: joints for word, joints in POSES.items() if joints[0] in FAMILY_JOINTS[family]}
    values = {word: torch.tensor(rng.normal(0, 0.3, (frames, 3 * len(joints)))) for word, joints in words.items()}
    values["global_orient"] *= 4
    if family == "smpl":
        values["body_pose"] = torch.tensor(rng.normal(0, 0.3, (frames, 69)))
    else:
        for side in ("left", "right"):
            values[f"{side}_hand_pose"] = torch.tensor(rng.normal(0, 0.3, (frames, hand)))
    betas = torch.tensor(rng.normal(0, 1, (frames, 10)))
    expression = {"expression": torch.tensor(rng.normal(0, 1, (frames, 10)))} if family == "smplx" else {}
    return {**values, **expression, "betas": betas, "transl": torch.tensor(rng.normal(0, 1, (frames, 3)))}


def by_the_package(files, family, given, points=0, **options):
    """Vertices and joints of smplx.create on the very file. points: how many that are no joints are given, too."""
    path = Path(files) / f"{family.upper()}_NEUTRAL.npz"
    network = _network(path, path.stat().st_mtime_ns, tuple(sorted(options.items())))
    with torch.no_grad():
        made = network(**{word: x.float() for word, x in given.items()})
    return made.vertices, made.joints[:, : len(FAMILY_JOINTS[family]) + points]


@lru_cache(maxsize=2)
def _network(path, written, options):
    """written: when the file was."""
    import smplx
    from smplx.utils import Struct

    # Of SMPL and SMPL-H the package opens pickles alone, if nobody says otherwise.
    data = {} if path.name.startswith("SMPLX") else {"data_struct": Struct(**np.load(path))}
    with contextlib.redirect_stdout(io.StringIO()):
        return smplx.create(str(path), **data, **dict(options))


def skinned(arrays, betas, vectors, shift):
    """Vertices (P, 3) and joints (J, 3) of one frame, in float64, by the formulas of the papers alone.

    betas: coefficients of all of ``shapedirs``. vectors: (J, 3) axis-angle.
    """
    a = {name: np.asarray(x, np.float64) for name, x in arrays.items()}
    rest = a["v_template"] + a["shapedirs"] @ betas
    places = a["J_regressor"] @ rest
    rotations = np.stack([turn_of(v) for v in vectors])
    posed = rest + a["posedirs"] @ (rotations[1:] - np.eye(3)).reshape(-1)
    parents = a["kintree_table"][0].astype(int)
    world = np.zeros((len(places), 4, 4))
    for j, (rotation, place) in enumerate(zip(rotations, places, strict=True)):
        local = np.eye(4)
        local[:3, :3], local[:3, 3] = rotation, place - (places[parents[j]] if j else 0)
        world[j] = world[parents[j]] @ local if j else local
    moved = world.copy()
    moved[:, :3, 3] -= np.einsum("jab,jb->ja", world[:, :3, :3], places)
    blend = np.einsum("pj,jab->pab", a["weights"], moved)
    vertices = np.einsum("pab,pb->pa", blend[:, :3, :3], posed) + blend[:, :3, 3]
    return vertices + shift, world[:, :3, 3] + shift


def turn_of(vector):
    """Rodrigues' formula."""
    angle = np.linalg.norm(vector)
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
