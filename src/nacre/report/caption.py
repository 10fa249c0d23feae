"""What stands above and below the scene in a frame of a video: the episode, the task, and the belief as a strip."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH = 640
"""Pixels of the frame that the other sizes are of; they grow with it."""
TOP, BOTTOM, MARGIN = 66, 64, 12
BACKGROUND, INK, SOFT, RULE = (255, 255, 255), (38, 38, 38), (89, 89, 89), (200, 200, 200)
BELIEF = (0, 114, 178)
BELIEF_RANGE = 3.0
"""A strip goes from minus to plus this many standard deviations of the prior."""


class Caption(NamedTuple):
    """What is told of a moment of a trial."""

    episode: int  # from 1
    episodes: int
    purpose: str  # exploring, acting on what it knows, scored
    total: float  # the return so far
    task: str
    reading: str  # how the robot does it: speed beside target
    mean: np.ndarray  # of z [latent_dim]; empty without a belief
    std: np.ndarray


def captioned(scene: np.ndarray, caption: Caption) -> np.ndarray:
    """The scene [height, width, 3] between caption and strip; height and width are even."""
    height, width = scene.shape[:2]
    scale = width / WIDTH
    top, bottom = (_even(part * scale) for part in (TOP, BOTTOM if len(caption.mean) else 0))
    image = Image.new("RGB", (width, height + top + bottom), BACKGROUND)
    image.paste(Image.fromarray(scene), (0, top))
    drawing = ImageDraw.Draw(image)
    _write_caption(drawing, caption, width, scale)
    if len(caption.mean):
        _draw_belief(drawing, caption, width, top + height, scale)
    return np.asarray(image)


@functools.cache
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _even(number: float) -> int:
    return 2 * round(number / 2)


def _write_caption(drawing: ImageDraw.ImageDraw, caption: Caption, width: int, scale: float) -> None:
    """Two lines: where the trial stands, with the return at the right; the task, with the reading at the right."""
    left, right = MARGIN * scale, width - MARGIN * scale
    large, small = _font(22 * scale), _font(17 * scale)
    headline = f"episode {caption.episode} of {caption.episodes}, {caption.purpose}"
    drawing.text((left, 6 * scale), headline, INK, large)
    drawing.text((right, 6 * scale), f"return {caption.total:.1f}", INK, large, anchor="ra")
    drawing.text((right, 38 * scale), caption.reading, SOFT, small, anchor="ra")
    room = right - left - drawing.textlength(caption.reading, small) - MARGIN * scale
    drawing.text((left, 38 * scale), shortened(drawing, caption.task, small, room), SOFT, small)


def shortened(
    drawing: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: float
) -> str:
    """The text, cut with dots where it is longer than the room."""
    if drawing.textlength(text, font) <= room:
        return text
    while text and drawing.textlength(text + "...", font) > room:
        text = text[:-1]
    return text + "..." if text else ""


def _draw_belief(drawing: ImageDraw.ImageDraw, caption: Caption, width: int, top: float, scale: float) -> None:
    """A cell for each number of z: an axis, the mean as a mark, a standard deviation to both sides as a bar."""
    margin, small = MARGIN * scale, _font(14 * scale)
    words = f"belief: mean and standard deviation of each number of z, from {-BELIEF_RANGE:g} to {BELIEF_RANGE:g}"
    drawing.text((margin, top + 6 * scale), shortened(drawing, words, small, width - 2 * margin), SOFT, small)
    size, middle = (width - 2 * margin) / len(caption.mean), top + 44 * scale
    for index, (mean, std) in enumerate(zip(caption.mean, caption.std, strict=True)):
        left, right = margin + (index + 0.06) * size, margin + (index + 0.94) * size
        drawing.line([(left, middle), (right, middle)], RULE, max(1, round(2 * scale)))
        if not np.isfinite(mean + std):
            continue
        low, high, at = (_place(value, left, right) for value in (mean - std, mean + std, mean))
        drawing.rectangle((low, middle - 7 * scale, max(high, low + 1), middle + 7 * scale), fill=BELIEF)
        drawing.rectangle((at - scale, middle - 12 * scale, at + scale, middle + 12 * scale), fill=INK)


def _place(value: float, left: float, right: float) -> float:
    """Where a value lies on a strip; beyond its ends, at them."""
    share = (np.clip(value, -BELIEF_RANGE, BELIEF_RANGE) + BELIEF_RANGE) / (2 * BELIEF_RANGE)
    return float(left + share * (right - left))
