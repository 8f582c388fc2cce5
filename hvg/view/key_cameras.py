"""A camera path that is edited by hand: where its key cameras stand, and what the cameras between them are."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.geometry.camera_moves import through_keys
from hvg.values.cameras import Cameras

# Key cameras that a moving camera gets at most when it is first edited.
MOST_KEYS = 9
# Metres, and degrees, by which it may then be off.
CLOSE_METRES, CLOSE_DEGREES = 0.01, 0.5


@dataclass(frozen=True, kw_only=True)
class EditedPath:
    """Cameras (V, T), some of which go through key cameras.

    given: as they came; a view that nobody edits stays so to the bit. target: (3), around which cameras go between keys, as of
    ``hvg.geometry.camera_moves.through_keys``. edited: view -> frame -> world_to_camera (4, 4) of the key there.
    """

    given: Cameras
    target: Tensor
    edited: Mapping[int, Mapping[int, Tensor]] = field(default_factory=dict)

    def cameras(self) -> Cameras:
        """The cameras (V, T) as they are now."""
        poses = self.given.world_to_camera.clone()
        for view, keys in self.edited.items():
            poses[view] = self._through(view, keys)
        return replace(self.given, world_to_camera=poses)

    def keys(self, view: int) -> Mapping[int, Tensor]:
        """Frame -> world_to_camera (4, 4) of the keys of a view, by frame: of one that nobody has edited, as few as give its path
        again; at most ``MOST_KEYS``, from which it may then be off.
        """
        return self.edited[view] if view in self.edited else self._first_keys(view)

    def put(self, view: int, frame: int, pose: Tensor | None = None) -> "EditedPath":
        """With a key of this ``pose`` (4, 4) in a frame, in place of one that is there; without a pose, where the camera is."""
        if pose is None:
            pose = self.cameras().world_to_camera[view, frame]
        keys = {**self.keys(view), frame: pose.to(self.given.world_to_camera)}
        return self._with(view, dict(sorted(keys.items())))

    def without(self, view: int, frame: int) -> "EditedPath":
        """Without the key in a frame. Raises: HvgError where there is none, or no other."""
        keys = dict(self.keys(view))
        if frame not in keys:
            raise HvgError(f"there is no key in frame {frame}; there are some in {', '.join(map(str, keys))}")
        if len(keys) == 1:
            raise HvgError("the last key of a camera stays")
        del keys[frame]
        return self._with(view, keys)

    def reset(self, view: int) -> "EditedPath":
        """With a view as it came."""
        return replace(self, edited={v: keys for v, keys in self.edited.items() if v != view})

    def _with(self, view: int, keys: Mapping[int, Tensor]) -> "EditedPath":
        return replace(self, edited={**self.edited, view: keys})

    def _through(self, view: int, keys: Mapping[int, Tensor]) -> Tensor:
        frames = self.given.shape[1]
        if len(keys) == 1:
            return next(iter(keys.values())).expand(frames, 4, 4)
        lenses = self.given.intrinsics[view][[*keys]]
        cameras = replace(self.given, world_to_camera=torch.stack([*keys.values()]), intrinsics=lenses)
        return through_keys(cameras, torch.tensor([*keys]), frames, self.target)

    def _first_keys(self, view: int) -> dict[int, Tensor]:
        track = self.given.world_to_camera[view]
        last = len(track) - 1
        if bool((track == track[:1]).all()):
            return {0: track[0]}
        keys = dict[int, Tensor]()
        for count in range(2, min(MOST_KEYS, last + 1) + 1):
            places = torch.linspace(0, last, count).round().long().tolist()
            keys = {frame: track[frame] for frame in places}
            if _are_close(self._through(view, keys), track):
                break
        return keys


def _are_close(a: Tensor, b: Tensor) -> bool:
    """Whether two tracks of cameras (T, 4, 4) are as good as the same."""
    turn = a[:, :3, :3].double() @ b[:, :3, :3].double().mT
    cosine = (turn.diagonal(dim1=1, dim2=2).sum(dim=1) - 1) / 2
    degrees = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
    places = [-(x[:, :3, :3].mT @ x[:, :3, 3:])[..., 0] for x in (a, b)]
    metres = (places[0] - places[1]).norm(dim=-1)
    return bool((degrees < CLOSE_DEGREES).all() and (metres < CLOSE_METRES).all())
