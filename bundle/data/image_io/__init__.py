"""Reading of images and labels in many formats: decoding, conversion to 8-bit RGB or label maps, reader for MONAI."""

from bundle.data.image_io.label_values import label_kind
from bundle.data.image_io.picture_reader import PictureReader
from bundle.data.image_io.pictures import (
    IMAGE_SUFFIXES,
    Picture,
    check_pair,
    is_picture,
    picture_size,
    read_image,
    read_label,
    stem_of,
    volume_slices,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "Picture",
    "PictureReader",
    "check_pair",
    "is_picture",
    "label_kind",
    "picture_size",
    "read_image",
    "read_label",
    "stem_of",
    "volume_slices",
]
