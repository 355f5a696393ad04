"""Pixels: what an image measures, and smaller ones. The only file with Pillow (extra ``images``)."""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple

from claude_batch_pandas.abilities import Sight
from claude_batch_pandas.slots import UnfitError

PATCH = 28  # pixels; an image costs a token per square of this side (the API's page on vision)
LARGEST_BYTES = 5_000_000  # of a base64 image that the API takes, before the encoding
INSTALL = "pip install 'claude-batch-pandas[images]'"
PNG_MODES = frozenset({"1", "L", "LA", "I", "P", "RGB", "RGBA"})
FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/gif": "GIF", "image/webp": "WEBP"}


class Picture(NamedTuple):
    """An image as it is sent."""

    data: bytes
    media_type: str
    was_scaled: bool = False


def is_available() -> bool:
    """Tell whether Pillow is installed."""
    try:
        import PIL.Image  # noqa: F401 - to see whether it is there
    except ImportError:
        return False
    return True


def from_pixels(value: Any) -> bytes | None:
    """Return a Pillow image or an array of pixels as PNG; None for anything else.

    Parameters
    ----------
    value : PIL.Image.Image or numpy.ndarray
        An array has the shape (height, width) or (height, width, channels) and the dtype uint8, or
        floats from 0 to 1.

    Raises
    ------
    UnfitError
    """
    is_array = hasattr(value, "__array_interface__") and hasattr(value, "shape")
    if type(value).__module__.partition(".")[0] != "PIL" and not is_array:
        return None
    if not is_available():
        msg = f"an image in memory needs Pillow: {INSTALL}."
        raise UnfitError(msg)
    from PIL import Image

    try:
        if is_array and not isinstance(value, Image.Image):
            value = Image.fromarray(_bytes_of(value))
        return _saved(value if value.mode in PNG_MODES else value.convert("RGB"), "PNG")
    except UnfitError:
        raise
    except (TypeError, ValueError, OSError, AttributeError, KeyError):
        shape = getattr(value, "shape", None)
        about = f"an array of shape {shape}" if is_array else f"a {type(value).__name__}"
        msg = f"{about} is no image; use (height, width) or (height, width, 3) of uint8."
        raise UnfitError(msg) from None


def tokens(data: bytes, sight: Sight) -> int:
    """Return how many tokens an image costs; the most that a model sees, where it is not known."""
    if not data or not is_available():
        return sight.tokens
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = _fitting(image.width, image.height, sight)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return sight.tokens
    return math.ceil(width / PATCH) * math.ceil(height / PATCH)


def fitted(data: bytes, media_type: str, sight: Sight) -> Picture:
    """Return an image no larger than a model reads it; the API would scale it down at our cost.

    Without Pillow it stays as it is.

    Raises
    ------
    UnfitError
        When it is damaged, or too large to be sent.
    """
    if not is_available():
        if len(data) > LARGEST_BYTES:
            msg = (
                f"the image has {len(data):,} bytes, more than the API takes; {INSTALL} scales it."
            )
            raise UnfitError(msg)
        return Picture(data, media_type)
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data)) as image:
            size = _fitting(image.width, image.height, sight)
            if size == image.size and len(data) <= LARGEST_BYTES:
                return Picture(data, media_type)
            # A photo says in its tags which way is up; the tags do not survive.
            upright = ImageOps.exif_transpose(image)
            size = _fitting(upright.width, upright.height, sight)
            return _encoded(upright.resize(size, Image.Resampling.LANCZOS), media_type)
    except Image.DecompressionBombError:
        msg = "the image has far too many pixels; scale it down first."
        raise UnfitError(msg) from None
    except (OSError, ValueError, SyntaxError) as error:
        msg = f"the image cannot be read ({type(error).__name__}); is the file damaged?"
        raise UnfitError(msg) from None


def _fitting(width: int, height: int, sight: Sight) -> tuple[int, int]:
    """Return the largest size of the same shape that a model reads as it is."""
    scale = min(1.0, sight.edge / max(width, height))
    while scale > 0:
        size = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
        if math.ceil(size[0] / PATCH) * math.ceil(size[1] / PATCH) <= sight.tokens:
            return size
        scale *= 0.99
    return 1, 1


def _encoded(image: Any, media_type: str) -> Picture:
    """Return an image in its own format, or as a JPEG when that is still too large."""
    kind = FORMATS[media_type]
    data = _saved(image.convert("RGB") if kind == "JPEG" else image, kind)
    if len(data) > LARGEST_BYTES:
        data, media_type = _saved(image.convert("RGB"), "JPEG"), "image/jpeg"
    return Picture(data, media_type, was_scaled=True)


def _saved(image: Any, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def _bytes_of(array: Any) -> Any:
    """Return an array of pixels as bytes; floats from 0 to 1 become 0 to 255."""
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):  # NaN is neither
            msg = "an array of floats is an image when all are from 0 to 1; use uint8 for 0 to 255."
            raise UnfitError(msg)
        return (array * 255).round().astype("uint8")
    if array.dtype.kind == "b":
        return array.astype("uint8") * 255
    return array
