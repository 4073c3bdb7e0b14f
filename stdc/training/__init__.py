"""The training loop with what it needs: steps, checkpoints, the run folder, the recorder, the data loader."""
