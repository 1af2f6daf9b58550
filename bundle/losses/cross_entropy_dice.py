"""Cross-entropy and Dice in one, with a weight a pixel that reaches both."""

from __future__ import annotations

from torch import Tensor, nn

from bundle.losses.cross_entropy import CrossEntropy
from bundle.losses.dice import Dice


class CrossEntropyDice(nn.Module):
    """CrossEntropy + dice_weight Dice, both over the same counted pixels.

    MONAI's ``DiceCELoss`` has no weight a pixel.

    Args:
        dice_weight: weight of the Dice term.
        dice: the Dice loss; :class:`Dice` with its defaults where not given.
    """

    def __init__(self, dice_weight: float = 1.0, dice: nn.Module | None = None) -> None:
        super().__init__()
        self.dice_weight = dice_weight
        self.cross_entropy = CrossEntropy()
        self.dice = dice if dice is not None else Dice()

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compare prediction and target, in float32 also under autocast.

        Args:
            prediction: logits (B, C, H, W), C >= 2.
            target: class indices (B, 1, H, W) where ``IGNORE`` counts nothing, or class probabilities (B, C, H, W).
            weight: how much each pixel counts, (B, 1, H, W), 0 or more; ``None`` counts all alike.

        Returns:
            The sum, a tensor without dimensions, 0 or more; 0 where no pixel counts.

        Raises:
            ValueError: where shapes do not fit.
        """
        return self.cross_entropy(prediction, target, weight) + self.dice_weight * self.dice(prediction, target, weight)
