"""From a request to videos: photo, camera paths, export, the pipeline for diffusers."""
