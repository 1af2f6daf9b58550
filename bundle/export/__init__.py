"""What goes along with a model that leaves this bundle."""

from bundle.export.card import model_card, model_metadata

__all__ = ["model_card", "model_metadata"]
