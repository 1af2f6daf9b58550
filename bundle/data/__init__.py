"""Data: reading of images and labels, data lists, splits, protocols, cache, and the phantom."""

from bundle.data.caching import TileCache, TileLoader, cached_share
from bundle.data.image_io import (
    IMAGE_SUFFIXES,
    Picture,
    PictureReader,
    is_picture,
    label_kind,
    picture_size,
    read_image,
    read_label,
    stem_of,
    volume_slices,
)
from bundle.data.inference_dataset import PicturesToPredict, slides_to_predict
from bundle.data.lists import image_files, images_digest, images_to_predict, load_data_list, required_part
from bundle.data.phantom import check_phantom, phantom_data_list, write_phantom
from bundle.data.protocols import apply_protocol
from bundle.data.splits import draw_split, heldout_lists, nested_draws, patient_folds

__all__ = [
    "IMAGE_SUFFIXES",
    "Picture",
    "PictureReader",
    "PicturesToPredict",
    "TileCache",
    "TileLoader",
    "apply_protocol",
    "cached_share",
    "check_phantom",
    "draw_split",
    "heldout_lists",
    "image_files",
    "images_digest",
    "images_to_predict",
    "is_picture",
    "label_kind",
    "load_data_list",
    "nested_draws",
    "patient_folds",
    "phantom_data_list",
    "picture_size",
    "read_image",
    "read_label",
    "required_part",
    "slides_to_predict",
    "stem_of",
    "volume_slices",
    "write_phantom",
]
