"""Arrays in files: our own, PaddleSeg's, torch's, and pretrained ones. Knows no training."""
