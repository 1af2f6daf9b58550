"""Networks with named heads, one architecture a file."""

from bundle.networks.gate import Gate, GatedTask
from bundle.networks.semi_moe import SemiMoE
from bundle.networks.unet import UNet, UNetDecoder, UNetEncoder

__all__ = ["Gate", "GatedTask", "SemiMoE", "UNet", "UNetDecoder", "UNetEncoder"]
