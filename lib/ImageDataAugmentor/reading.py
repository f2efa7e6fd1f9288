"""Image files, read as uint8 arrays of a given size and colour mode."""

import functools
import re
import threading
import warnings
from dataclasses import dataclass, replace
from io import BytesIO

import cv2
import numpy as np
from PIL import Image, ImageFile, ImageOps

CHANNELS = {"rgb": 3, "rgba": 4, "grayscale": 1, "gray": 1}
_INTERPOLATIONS = {"nearest": cv2.INTER_NEAREST, "lanczos": cv2.INTER_LANCZOS4}
_INTERPOLATIONS |= {"linear": cv2.INTER_LINEAR, "bilinear": cv2.INTER_LINEAR}
_INTERPOLATIONS |= {"cubic": cv2.INTER_CUBIC, "bicubic": cv2.INTER_CUBIC}
_INTERPOLATIONS |= {"area": cv2.INTER_AREA, "box": cv2.INTER_AREA}
_JPEG, _PNG, _TIFF = b"\xff\xd8", b"\x89PNG", (b"II*\0", b"MM\0*")
_JPEG_END = b"\xff\xd9"
_DEEP = {"F", "I", "unknown"}  # Pillow's modes of more than 16 bits; it has none in colour.
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_UNKNOWN = {"DICOM": re.compile(rb"(?s).{128}DICM")}
_UNKNOWN |= {"JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")}
_NO_IMAGE = "not an image that can be decoded"
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_pillow_lock = threading.Lock()


class UnreadableImage(OSError):
    """An image file is missing, damaged or no image. The message names it."""


@dataclass(frozen=True)
class ImageLoader:
    """Reads and resizes image files. Equal loaders give equal arrays.

    Raises ValueError for a colour mode, an interpolation or a `truncated` that does not exist.
    """

    color_mode: str = "rgb"  # or "rgba", "grayscale", "gray"
    target_size: tuple[int, int] | None = None  # (height, width); None keeps each file's size
    interpolation: int = cv2.INTER_NEAREST  # a cv2.INTER_... constant or its name
    truncated: str = "load"  # or "error"; see `read_image`
    # (height, width) to which photos are resized first, for a cache that keeps them for flows of
    # several sizes; None for `target_size`.
    kept_size: tuple[int, int] | None = None

    def __post_init__(self):
        if self.color_mode not in CHANNELS:
            raise ValueError(f"color_mode={self.color_mode!r}: give one of {', '.join(CHANNELS)}")
        if self.truncated not in {"load", "error"}:
            raise ValueError(f"truncated={self.truncated!r}: expected 'load' or 'error'")
        interpolation = _INTERPOLATIONS.get(self.interpolation, self.interpolation)
        if isinstance(interpolation, str):
            raise ValueError(
                f"interpolation={interpolation!r}: expected a cv2.INTER_... constant or one of "
                f"{', '.join(_INTERPOLATIONS)}"
            )
        target, kept = (
            size and tuple(map(int, size)) for size in (self.target_size, self.kept_size)
        )
        vars(self).update(
            interpolation=interpolation,
            target_size=target,
            kept_size=None if kept == target else kept,
        )

    def __call__(self, path: str) -> np.ndarray:
        """Return one file as uint8 [height, width, channels], 0..255. Raises UnreadableImage."""
        image = resize(self.decode(path), self.kept_size or self.target_size, self.interpolation)
        return self.from_kept(image)

    def decode(self, path: str) -> np.ndarray:
        """Return one file, as __call__ does but in its own size."""
        return read_image(path, self.color_mode, self.truncated)

    def keeper(self) -> "ImageLoader":
        """Return the loader of the pictures that a cache keeps: this one, or of the kept size."""
        if self.kept_size is None:
            return self
        return replace(self, target_size=self.kept_size, kept_size=None)

    def from_kept(self, image: np.ndarray) -> np.ndarray:
        """Return a picture of the kept size in the target size."""
        return resize(image, self.target_size, self.second_interpolation)

    @property
    def second_interpolation(self) -> int:
        """The interpolation from the kept to the target size.

        Down to half the size linear resizing still uses every pixel, in a sixth of the time that
        area resizing takes.
        """
        if self.interpolation != cv2.INTER_AREA or self.kept_size is None:
            return self.interpolation
        halved = any(2 * t < k for t, k in zip(self.target_size, self.kept_size, strict=True))
        return cv2.INTER_AREA if halved else cv2.INTER_LINEAR


def load_img(
    fname: str,
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation=cv2.INTER_NEAREST,
) -> np.ndarray:
    """Return one file as uint8 [height, width, channels], resized to target_size if not None."""
    return ImageLoader(color_mode, target_size, interpolation)(fname)


def read_image(path: str, color_mode: str = "rgb", truncated: str = "load") -> np.ndarray:
    """Decode one file to uint8 [height, width, channels], values 0..255.

    16-bit values keep their upper eight bits; for 32 and 64 bits see `_as_uint8`. Alpha is dropped
    unless the mode is rgba. The orientation in a file's header is applied for rgb and gray but, as
    in the original library, not for rgba. With `truncated="load"` a truncated file is decoded as
    far as possible, with a warning; with "error" it is refused. Raises UnreadableImage, which names
    the file.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # np.fromfile takes twice as long.
            data = np.frombuffer(file.read(), np.uint8)
    except OSError as error:
        raise UnreadableImage(f"{path}: cannot be read ({error.strerror or error})") from error
    if not data.size:
        raise UnreadableImage(f"{path}: the file is empty")
    cut_off = _is_truncated(data)
    if cut_off and truncated == "error":
        raise UnreadableImage(f"{path}: the file is truncated")
    image = None if _is_for_pillow(data) else _decode(data, color_mode)
    if image is None:
        image = _decode_with_pillow(path, data, color_mode, cut_off)
    if cut_off:
        warnings.warn(f"{path}: the file is truncated; what is missing is blank.", stacklevel=2)
    return image


def read_reduced(path: str, side: int, colour: bool = False) -> np.ndarray | None:
    """Decode a large JPEG, reduced by 2, 4 or 8 while it is decoded: uint8 [height, width(, 3)].

    Every byte is still read, in a fraction of the time. The shorter side keeps `side` pixels at
    least. Returns None for another kind of file, a smaller one, and one that may be damaged, for
    which `read_image` knows more.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read()
        if not (data.startswith(_JPEG) and data.endswith(_JPEG_END)):
            return None
        with warnings.catch_warnings(), Image.open(BytesIO(data)) as header:  # decodes nothing
            warnings.simplefilter("ignore")  # about sizes that OpenCV reads well
            shorter = min(header.size)
        factor = next(factor for factor in (8, 4, 2) if shorter >= factor * side)
        flag = getattr(cv2, f"IMREAD_REDUCED_{'COLOR' if colour else 'GRAYSCALE'}_{factor}")
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if colour else image
    except (*_PILLOW_ERRORS, StopIteration, cv2.error):
        return None


def resize(image: np.ndarray, target_size: tuple[int, int] | None, interpolation: int):
    """Return the image in `target_size` (height, width), or as it is if that is None."""
    if target_size is None or image.shape[:2] == target_size:
        return image
    resized = cv2.resize(image, target_size[::-1], interpolation=interpolation)
    return resized[..., np.newaxis] if resized.ndim == 2 else resized


def _decode(data: np.ndarray, color_mode: str) -> np.ndarray | None:
    flags = {"rgb": cv2.IMREAD_COLOR_RGB, "rgba": cv2.IMREAD_UNCHANGED}
    flag = flags.get(color_mode, cv2.IMREAD_GRAYSCALE)
    deep = _tiff_mode(data) in _DEEP  # OpenCV would refuse it, or cut its values off at 255.
    if deep and color_mode != "rgba":
        flag = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
    try:
        image = cv2.imdecode(data, flag)
    except cv2.error:  # OpenCV knows this kind of file but cannot convert it.
        return None
    if image is None:
        return None
    if deep or color_mode == "rgba":
        image = _in_colours(_as_uint8(image), color_mode)
    return image[..., np.newaxis] if image.ndim == 2 else image


def _is_for_pillow(data: np.ndarray) -> bool:
    """Return whether OpenCV would decode it, but wrongly."""
    # It multiplies the colours of a TIFF by its alpha, and ignores the orientation of AVIF.
    if data[4:8].tobytes() == b"ftyp":  # AVIF and HEIF; older versions of Pillow lack the former.
        return ".avif" in Image.registered_extensions() or b"avi" not in data[8:32].tobytes()
    return _tiff_mode(data) in {"RGBA", "RGBa", "LA", "PA"}


def _tiff_mode(data: np.ndarray) -> str:
    """Return the mode that Pillow gives a TIFF, "unknown" where it has none; "" for other files."""
    if data[:4].tobytes() not in _TIFF:
        return ""
    try:
        with Image.open(BytesIO(data)) as image:
            return image.mode
    except _PILLOW_ERRORS:
        return "unknown"


def _as_uint8(image: np.ndarray) -> np.ndarray:
    """Scale an image of any depth to uint8, 0..255, by the range that its own values span."""
    # Their range is 0..1 (fractions alone), 0..255, or 0..65535 where none is outside. If any is,
    # the range is from the smallest value to the largest.
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)
    values = np.nan_to_num(image.astype(np.float64), posinf=0, neginf=0)
    low, high = values.min(), values.max()
    whole = np.issubdtype(image.dtype, np.integer)
    tops = (255, 65535) if whole else (1, 255, 65535)
    if top := next((top for top in tops if low >= 0 and high <= top), 0):
        low, high = 0, top
    return np.uint8(np.round((values - low) * (255 / max(high - low, 1e-300))))


def _in_colours(image: np.ndarray, color_mode: str) -> np.ndarray:
    channels = 1 if image.ndim == 2 else image.shape[2]
    source = {1: "GRAY", 3: "BGR", 4: "BGRA"}[channels]
    target = {"rgb": "RGB", "rgba": "RGBA"}.get(color_mode, "GRAY")
    if source == target:
        return image
    return cv2.cvtColor(image, getattr(cv2, f"COLOR_{source}2{target}"))


def _decode_with_pillow(path, data: np.ndarray, color_mode: str, cut_off: bool) -> np.ndarray:
    """Decode with Pillow, which knows more kinds of files and decodes more of damaged ones."""
    mode = {"rgb": "RGB", "rgba": "RGBA"}.get(color_mode, "L")
    head = data[:132].tobytes()
    is_heif = head[4:8] == b"ftyp" and head[8:12] in _HEIF and b"avi" not in head[4:32]
    if is_heif and not _reads_heif():
        raise UnreadableImage(
            f"{path}: a HEIC photo, which `pip install pillow-heif` makes readable"
        )
    try:
        with _pillow_lock:  # The flag is global in Pillow.
            before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, cut_off
            try:
                image = Image.open(BytesIO(data))
                image.load()
            finally:
                ImageFile.LOAD_TRUNCATED_IMAGES = before
        if color_mode != "rgba":
            image = ImageOps.exif_transpose(image)
        array = np.asarray(image.convert(mode))
    except Exception as error:  # Decoders raise many kinds of errors for damaged files.
        kind = next((name for name, start in _UNKNOWN.items() if start.match(head)), "")
        why = f"a {kind} file, which must be converted to PNG or JPEG" if kind else _NO_IMAGE
        raise UnreadableImage(f"{path}: {why}") from error
    return array[..., np.newaxis] if array.ndim == 2 else array


@functools.cache
def _reads_heif() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _is_truncated(data: np.ndarray) -> bool:
    start, end = data[:4].tobytes(), data[-16:].tobytes()
    if start.startswith(_JPEG):
        if end.endswith(_JPEG_END):
            return False
        whole = data.tobytes()  # Padding or an attachment may follow the end marker.
        return whole.rfind(_JPEG_END) < whole.rfind(b"\xff\xda")
    if start == _PNG:
        return b"IEND" not in end and b"IEND\xaeB`\x82" not in data.tobytes()
    try:
        with Image.open(BytesIO(data)) as image:
            image.load()
    except _PILLOW_ERRORS as error:
        return "truncated" in str(error)
    return False
