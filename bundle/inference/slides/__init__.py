"""Whole slide images: reading at the working resolution, tissue detection, and prediction in blocks."""

from bundle.inference.slides.blocks import BlockDataset, block_loader
from bundle.inference.slides.grid import Box, Region, regions, stride_of
from bundle.inference.slides.kinds import is_slide
from bundle.inference.slides.reader import BACKENDS, Level, Slide, SlideError, open_slide
from bundle.inference.slides.scale import Scale, read_working, scale_of
from bundle.inference.slides.segmenter import SlideSegmenter
from bundle.inference.slides.tissue import Tissue, find_tissue
from bundle.inference.slides.view import SlideView

__all__ = [
    "BACKENDS",
    "BlockDataset",
    "Box",
    "Level",
    "Region",
    "Scale",
    "Slide",
    "SlideError",
    "SlideSegmenter",
    "SlideView",
    "Tissue",
    "block_loader",
    "find_tissue",
    "is_slide",
    "open_slide",
    "read_working",
    "regions",
    "scale_of",
    "stride_of",
]
