"""The four steps of the method: registration, inpainting, synthesis, segmentation."""
