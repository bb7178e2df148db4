"""Encoded pictures to RGB pixels, by pillow."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

from stoker.models.oip.tensor import Tensor
from stoker.models.tasks.media import media_bytes
from stoker.nouns.errors import BadRequest

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 50_000_000
"""A few kilobytes can declare a picture of gigabytes; this one takes 150 MB."""


def picture(value: Any) -> Image:
    """The picture of one input.

    Raises:
        BadRequest: it is none that pillow reads, or too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(value, Image.Image):
        return value.convert("RGB")
    data = media_bytes(value, "an image")
    try:
        with warnings.catch_warnings():
            # pillow's own, lower, bound is a warning.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(data))
        width, height = opened.size
        if width * height > MAX_PIXELS:
            raise BadRequest(
                f"the image has {width}x{height} pixels; at most {MAX_PIXELS} are taken",
                pixels=width * height,
                limit=MAX_PIXELS,
            )
        return ImageOps.exif_transpose(opened).convert("RGB")
    except UnidentifiedImageError as exc:
        raise BadRequest(
            f"the {len(data)} bytes are no image that can be read (PNG, JPEG, WebP, GIF, BMP, …)"
        ) from exc
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise BadRequest(f"the image is damaged: {exc}") from exc


def pictures_in(tensor: Tensor) -> list[Image]:
    """The pictures of a UINT8 tensor [n, height, width, 3].

    Raises:
        BadRequest: it has another shape.
    """
    from PIL import Image

    if len(tensor.shape) != 4 or tensor.shape[3] != 3 or 0 in tensor.shape:
        raise BadRequest(
            f"input {tensor.name!r}: UINT8 pixels must have the shape [n, height, width, 3], was "
            f"{tensor.shape}"
        )
    return [Image.fromarray(pixels, "RGB") for pixels in tensor.values]
