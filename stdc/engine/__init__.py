"""Everything that runs a network: devices, training loop, checkpoints, evaluation, speed."""
