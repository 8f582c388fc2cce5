"""People in space: skeleton, ellipsoids, meshes, triangulation, motion and its conventions."""
