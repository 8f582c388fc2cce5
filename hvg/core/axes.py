"""The axis of somebody's world that is up."""

from typing import Literal

Up = Literal["y", "-y", "z", "-z"]
# As a user may ask for it; auto: as the file says, or its kind.
AskedUp = Literal["auto", "y", "-y", "z", "-z"]
