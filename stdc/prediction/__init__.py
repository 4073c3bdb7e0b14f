"""From images to train ids: protocols, backends, exported networks. Knows no ground truth."""
