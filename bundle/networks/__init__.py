"""Networks with named heads, one architecture per file."""

from bundle.networks.auxiliary import AuxiliaryUNet, FeatureDrop, FeatureNoise, PyramidUNet
from bundle.networks.dual_task import DualTaskUNet
from bundle.networks.efficientnet_lite import EfficientNetLite
from bundle.networks.encoders import Encoder, PretrainableEncoder, UNetEncoder, without_pretrained
from bundle.networks.feature_dropout import ComplementaryDropout, DroppedUNet, FeatureDropout
from bundle.networks.gate import Gate, GatedTask
from bundle.networks.generalist import GeneralistUNet, SpecialistSemiMoE
from bundle.networks.k_experts import ImageGate, KExperts
from bundle.networks.outputs import NamedOutputs
from bundle.networks.peers import Padded, Peers
from bundle.networks.semi_moe import SemiMoE
from bundle.networks.timm_encoder import TimmEncoder
from bundle.networks.unet import UNet, UNetDecoder
from bundle.networks.unet_plus_plus import UNetPlusPlus
from bundle.networks.xnet import XNet, low_frequencies

__all__ = [
    "AuxiliaryUNet",
    "ComplementaryDropout",
    "DroppedUNet",
    "DualTaskUNet",
    "EfficientNetLite",
    "Encoder",
    "FeatureDrop",
    "FeatureDropout",
    "FeatureNoise",
    "Gate",
    "GatedTask",
    "GeneralistUNet",
    "ImageGate",
    "KExperts",
    "NamedOutputs",
    "Padded",
    "Peers",
    "PretrainableEncoder",
    "PyramidUNet",
    "SemiMoE",
    "SpecialistSemiMoE",
    "TimmEncoder",
    "UNet",
    "UNetDecoder",
    "UNetEncoder",
    "UNetPlusPlus",
    "XNet",
    "low_frequencies",
    "without_pretrained",
]
