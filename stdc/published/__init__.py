"""The published figures, and how a run compares with them."""
