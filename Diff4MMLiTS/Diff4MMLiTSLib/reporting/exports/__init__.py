"""Studies, segmentations and models in the formats that other tools read."""
