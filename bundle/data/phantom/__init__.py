"""Embedded data set: synthetic H&E-like tiles with glands, generated on first use."""

from bundle.data.phantom.dataset import check_phantom, phantom_data_list, write_phantom
from bundle.data.phantom.drawing import GRADES, draw_tile
from bundle.data.phantom.laboratories import DOMAINS

__all__ = ["DOMAINS", "GRADES", "check_phantom", "draw_tile", "phantom_data_list", "write_phantom"]
