"""ONNX files of trained networks; card, metadata and formats of an exported bundle."""

from bundle.export.bioimageio import write_bioimageio
from bundle.export.card import license_terms, model_card, model_metadata
from bundle.export.huggingface import write_huggingface
from bundle.export.onnx_export import check_onnx, is_own_export, write_onnx
from bundle.export.onnx_network import OnnxNetwork

__all__ = [
    "OnnxNetwork",
    "check_onnx",
    "is_own_export",
    "license_terms",
    "model_card",
    "model_metadata",
    "write_bioimageio",
    "write_huggingface",
    "write_onnx",
]
