"""Cityscapes-format data: labels, layout, checks, conversion, lists, transforms. Never imports paddle."""
