"""Data: lists of images on disk, splits, and one file for each source."""

from bundle.data.folder import image_files, images_to_predict, load_data_list, required_part
from bundle.data.glas import check_glas, prepare_glas
from bundle.data.phantom import check_phantom, phantom_data_list, write_phantom
from bundle.data.splits import draw_split, heldout_lists, nested_draws, patient_folds

__all__ = [
    "check_glas",
    "check_phantom",
    "draw_split",
    "heldout_lists",
    "image_files",
    "images_to_predict",
    "load_data_list",
    "nested_draws",
    "patient_folds",
    "phantom_data_list",
    "prepare_glas",
    "required_part",
    "write_phantom",
]
