"""From weights to figures: predictions, integer counts, official metrics, submissions, speed."""
