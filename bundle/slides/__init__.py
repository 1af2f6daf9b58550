"""Whole slide images: reading at the working resolution, tissue detection, and prediction in blocks."""

from bundle.slides.reader import BACKENDS, Level, Slide, SlideError, open_slide
from bundle.slides.reader_openslide import dicom_series
from bundle.slides.region_dataset import BlockDataset, block_loader
from bundle.slides.region_grid import Box, Region, regions, stride_of
from bundle.slides.resampling import Scale, read_working, scale_of
from bundle.slides.segmenter import SlideSegmenter
from bundle.slides.slide_crop import SlideView
from bundle.slides.slide_detection import is_slide
from bundle.slides.tissue import Tissue, find_tissue

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
    "dicom_series",
    "find_tissue",
    "is_slide",
    "open_slide",
    "read_working",
    "regions",
    "scale_of",
    "stride_of",
]
