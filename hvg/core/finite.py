"""Numbers that are none: what a model makes of a clip is refused where it is not finite, before 8 bits turn it into black."""

from collections.abc import Sequence

from torch import Tensor

from hvg.core.errors import HvgError


def refuse_not_finite(values: Tensor, clips: Sequence[str], what: str) -> None:
    """Raises: HvgError that names the clips of a batch (the first axis) with a value that is NaN or infinite.

    Waits for the device.
    """
    bad = [clip for clip, fine in zip(clips, values.isfinite().flatten(1).all(dim=1).tolist(), strict=True) if not fine]
    if bad:
        raise HvgError(f"clip {', '.join(bad)}: {what} are not finite, so there is nothing to see or to score")
