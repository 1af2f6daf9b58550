"""ONNX files of trained networks, and the card and metadata of an exported bundle."""

from bundle.export.card import model_card, model_metadata
from bundle.export.onnx_export import check_onnx, is_own_export, write_onnx
from bundle.export.onnx_network import OnnxNetwork

__all__ = ["OnnxNetwork", "check_onnx", "is_own_export", "model_card", "model_metadata", "write_onnx"]
