"""Augmentations of pictures (N, H, W, 3) uint8 with OpenCV: shift, colour, blur, cut-out. Each is off at 0.

The random shift is that of DrQ (Yarats et al., 2021): pad by repeating the border, then crop at a random place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError, MissingDependency
from robot_rl.sim.ranges import check

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """How much of each; every picture gets its own draw.

    Attributes:
        shift: pixels, half-width of the random shift.
        brightness, contrast, saturation: half-widths of factors around 1. hue: degrees, half-width.
        blur: pixels, largest standard deviation of a Gaussian blur.
        cutout: share of the side of the largest square that is covered with noise; in half of the pictures.
    """

    shift: int = 4
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 5.0
    blur: float = 0.8
    cutout: float = 0.25

    def __post_init__(self) -> None:
        check(self, shift=(0, 64), brightness=(0.0, 1.0), contrast=(0.0, 1.0), saturation=(0.0, 1.0))
        check(self, hue=(0.0, 180.0), blur=(0.0, 20.0), cutout=(0.0, 1.0))

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        """A changed copy.

        Raises:
            ConfigError: not (N, H, W, 3) uint8. MissingDependency: OpenCV is not installed.
        """
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ConfigError(f"pictures are {images.shape} {images.dtype}; expected (N, H, W, 3) uint8")
        out = np.empty_like(images)
        for i, image in enumerate(images):
            image = self._shifted(image, rng)
            image = self._blurred(self._coloured(image, rng), rng)
            out[i] = self._cut(image, rng)
        return out

    def _shifted(self, image: Images, rng: np.random.Generator) -> Images:
        if self.shift == 0:
            return image
        cv, p = _opencv(), self.shift
        padded = cv.copyMakeBorder(image, p, p, p, p, cv.BORDER_REPLICATE)
        x, y = rng.integers(0, 2 * p + 1, 2)
        return padded[y : y + image.shape[0], x : x + image.shape[1]]

    def _coloured(self, image: Images, rng: np.random.Generator) -> Images:
        """Brightness and contrast about the picture's mean in RGB, hue and saturation in HSV."""
        cv = _opencv()
        if self.brightness > 0 or self.contrast > 0:
            gain = 1.0 + self.contrast * rng.uniform(-1, 1)
            offset = image.mean() * ((1.0 + self.brightness * rng.uniform(-1, 1)) - gain)
            image = cv.addWeighted(image, gain, image, 0.0, offset)
        if self.saturation > 0 or self.hue > 0:
            hsv = cv.cvtColor(image, cv.COLOR_RGB2HSV)
            turn = round(0.5 * self.hue * rng.uniform(-1, 1))  # OpenCV counts hue in 2 degrees
            hsv[..., 0] = (hsv[..., 0].astype(np.int16) + turn) % 180
            factor = 1.0 + self.saturation * rng.uniform(-1, 1)
            hsv[..., 1] = np.clip(factor * hsv[..., 1], 0, 255).astype(np.uint8)
            image = cv.cvtColor(hsv, cv.COLOR_HSV2RGB)
        return image

    def _blurred(self, image: Images, rng: np.random.Generator) -> Images:
        sigma = self.blur * rng.uniform()
        return _opencv().GaussianBlur(image, (0, 0), sigma) if sigma > 0.1 else image

    def _cut(self, image: Images, rng: np.random.Generator) -> Images:
        if self.cutout == 0 or rng.uniform() < 0.5:
            return image
        height, width = image.shape[:2]
        h, w = (max(1, int(self.cutout * rng.uniform(0.3, 1.0) * n)) for n in (height, width))
        y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        image = np.array(image)
        image[y : y + h, x : x + w] = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        return image


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependency("OpenCV", "augmenting pictures", "pip install 'robot-rl[sim]'") from error
    return cv2
