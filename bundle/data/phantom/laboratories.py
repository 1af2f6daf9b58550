"""Stains and scanners of the laboratories of the phantom."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Laboratory:
    """Staining and scanner of one laboratory.

    Attributes:
        hematoxylin: optical density of red, green and blue at density 1.
        eosin: the same for eosin.
        strength: factors of both densities.
        light: color of the background in [0, 1], red, green, blue.
        blur: standard deviation of the optical blur, um.
        sensor: standard deviation of the sensor noise, gray values in [0, 255].
    """

    hematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    strength: tuple[float, float]
    light: tuple[float, float, float]
    blur: float
    sensor: float


DOMAINS = {
    "lab_a": Laboratory((0.72, 0.86, 0.34), (0.12, 0.80, 0.26), (0.85, 0.8), (0.96, 0.95, 0.97), 0.55, 2.5),
    "lab_b": Laboratory((0.80, 0.74, 0.24), (0.22, 0.62, 0.16), (0.7, 0.6), (0.90, 0.93, 0.95), 0.8, 4.0),
    "lab_c": Laboratory((0.64, 0.92, 0.40), (0.16, 0.98, 0.36), (1.0, 1.0), (0.98, 0.95, 0.91), 0.65, 3.0),
}
"""The laboratories, by name."""
