"""A generated mini-Cityscapes: street scenes with the real layout, for a first run without a dataset.

`camera` projects the street onto the image, `street` and `traffic` decide what stands where, `paint` gives it color
and texture, `writer` makes the files.
"""
