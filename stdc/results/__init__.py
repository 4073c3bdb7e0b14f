"""What runs leave: read and checked, compared, verified; and what they are doing now. Nothing here draws a page."""
