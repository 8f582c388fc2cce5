"""A trained model for users of diffusers; the folders that ``hvg export`` writes name this module.

pipeline = HumanVideoPipeline.from_pretrained(folder)
frames = pipeline("person.png", "walk.npz", camera="orbit", views=4).frames
"""

# diffusers looks here for the class of its own that a HumanVideoModel is read like.
from diffusers import ModelMixin

from hvg.sample.diffusers_pipeline import HumanVideoModel, HumanVideoOutput, HumanVideoPipeline

__all__ = ["HumanVideoModel", "HumanVideoOutput", "HumanVideoPipeline", "ModelMixin"]
