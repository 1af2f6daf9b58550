"""Model card and metadata of an exported model."""

from bundle.export.card import model_card, model_metadata

__all__ = ["model_card", "model_metadata"]
