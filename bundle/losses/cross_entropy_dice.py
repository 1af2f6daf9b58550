"""Sum of cross-entropy and Dice loss with pixel weights."""

from __future__ import annotations

from torch import Tensor, nn

from bundle.losses.cross_entropy import CrossEntropy
from bundle.losses.dice import Dice


class CrossEntropyDice(nn.Module):
    """CrossEntropy + dice_weight Dice, both with the same pixel weights.

    MONAI's ``DiceCELoss`` has no pixel weights.

    Args:
        dice_weight: weight of the Dice term.
        dice: the Dice loss; :class:`Dice` with its defaults if not given.

    Example::

        >>> import torch
        >>> logits, classes = torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.long)
        >>> CrossEntropyDice(dice_weight=0.0)(logits, classes)
        tensor(0.6931)
    """

    def __init__(self, dice_weight: float = 1.0, dice: nn.Module | None = None) -> None:
        super().__init__()
        self.dice_weight = dice_weight
        self.cross_entropy = CrossEntropy()
        self.dice = dice if dice is not None else Dice()

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the loss, in float32 also under autocast.

        Args:
            prediction: logits (B, C, H, W), C >= 2.
            target: class indices (B, 1, H, W) where ``IGNORE`` is ignored, or class probabilities (B, C, H, W).
            weight: pixel weights (B, 1, H, W), 0 or more; ``None`` weights all pixels equally.

        Returns:
            The sum, a 0-d tensor, 0 or more; 0 if all weights are 0.

        Raises:
            ValueError: if the shapes do not match.
        """
        return self.cross_entropy(prediction, target, weight) + self.dice_weight * self.dice(prediction, target, weight)
