"""Motion files, written for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hvg.geometry.motion import BODY_JOINTS, Motion
from hvg.geometry.motion_files import SMPLX_REST


def save_motion(path: str | Path, motion: Motion) -> None:
    """Writes ``motion`` so that ``load_motion`` gives it back: AMASS keys or ``joints``, y up, without pickle.

    A translation comes back to within a micrometre: files count it from elsewhere.
    """
    arrays: dict[str, Any] = {"up": np.array("y")}
    if motion.frames_per_second is not None:
        arrays["mocap_frame_rate"] = np.array(motion.frames_per_second)
    if motion.joints is not None:
        arrays["joints"] = motion.joints.numpy()
        arrays["joint_names"] = np.array(motion.joint_names)
    else:
        still = torch.zeros(motion.num_frames, 3)
        arrays["poses"] = torch.cat([motion.rotations.get(name, still) for name in BODY_JOINTS], dim=1).numpy()
    if motion.translation is not None:
        arrays["trans"] = (motion.translation + SMPLX_REST.standing - SMPLX_REST.origin).numpy()
    np.savez(path, **arrays)
