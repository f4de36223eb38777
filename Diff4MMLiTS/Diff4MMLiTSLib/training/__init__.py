"""How weights come to be: the one training loop, checkpoints, datasets, losses."""
