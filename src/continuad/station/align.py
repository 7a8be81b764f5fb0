"""A part is turned and moved to lie as the others of its product do: how, and the way back.

The turn comes from the spectra, whose magnitude a movement leaves alone (Reddy and Chatterji 1996), the movement from
phase correlation (Kuglin and Hines 1975); among what they propose, and no movement at all, the picture that correlates
best with the reference is taken.
"""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import fft, ndimage

SIDE = 128  # pixels of the longer side at which poses are sought
TURNS = 360  # directions of a spectrum's half circle
PROPOSED = 3  # turns, each also upside down, since a spectrum is the same both ways
FINER = np.arange(-1.5, 1.6, 0.5)  # degrees about the best one


class Pose(NamedTuple):
    """How a picture lies: it is turned about its middle by `degrees` (counter-clockwise), then moved by `down` and
    `right` pixels of the working image, with respect to the reference."""

    degrees: float = 0.0
    down: float = 0.0
    right: float = 0.0


def reference_of(images: np.ndarray) -> str:
    """The picture that the others are most alike, from working images (N, 3, H, W) uint8, as WebP in base64."""
    greys = np.stack([_grey(image) for image in images])
    best = np.square(greys - greys.mean(0)).sum((1, 2)).argmin()
    out = io.BytesIO()
    Image.fromarray(greys[best].round().astype(np.uint8)).save(out, "webp", quality=85)
    return base64.b64encode(out.getvalue()).decode("ascii")


def pose_of(image: np.ndarray, reference: str) -> Pose:
    """The pose of a working image (3, H, W) uint8."""
    spectrum, turned, wanted = _known(reference, image.shape[1:])
    grey = _grey(image)
    curve = fft.irfft((fft.rfft(turned, axis=0) * fft.rfft(_polar(grey), axis=0).conj()).sum(1))
    tops = [k for k in range(TURNS) if curve[k] >= max(curve[k - 1], curve[(k + 1) % TURNS])]
    best = sorted(tops, key=lambda k: -curve[k])[:PROPOSED]
    degrees = {(180 * k / TURNS + half + 180) % 360 - 180 for k in best for half in (0, 180)}
    found = max((_match(grey, angle, spectrum, wanted) for angle in sorted(degrees)), key=lambda one: one[0])
    found = max((_match(grey, found[1].degrees + step, spectrum, wanted) for step in FINER), key=lambda one: one[0])
    if found[0] <= _alike(grey, wanted):
        return Pose()
    scale = image.shape[1] / grey.shape[0]
    return found[1]._replace(down=found[1].down * scale, right=found[1].right * scale)


def straighten(values: np.ndarray, pose: Pose) -> np.ndarray:
    """An image (…, H, W) as if it lay like the reference; the border is repeated where nothing is known."""
    return _moved(values, pose, "nearest", 0.0)


def put_back(values: np.ndarray, pose: Pose, outside: float) -> np.ndarray:
    """A map (H, W) of a straightened image, in the place and direction of the picture."""
    matrix, offset = _matrix(pose, values.shape)
    inverse = np.linalg.inv(matrix)
    return ndimage.affine_transform(values, inverse, -inverse @ offset, order=1, mode="constant", cval=outside)


def _moved(values: np.ndarray, pose: Pose, mode: str, outside: float) -> np.ndarray:
    if pose == Pose():
        return values
    planes = values.reshape(-1, *values.shape[-2:])
    matrix, offset = _matrix(pose, planes.shape[1:])
    moved = [ndimage.affine_transform(plane, matrix, offset, order=1, mode=mode, cval=outside) for plane in planes]
    return np.stack(moved).reshape(values.shape)


def _matrix(pose: Pose, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Where each place (row, column) of the straightened image lies in the picture: matrix @ place + offset."""
    angle, middle = np.deg2rad(pose.degrees), (np.array(shape) - 1) / 2
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return matrix, middle + np.array([pose.down, pose.right]) - matrix @ middle


def _match(grey: np.ndarray, degrees: float, spectrum: np.ndarray, wanted: np.ndarray) -> tuple[float, Pose]:
    """How alike the reference a picture is once it is turned back and moved as phase correlation says."""
    turned = _moved(grey, Pose(degrees), "nearest", 0.0)
    cross = fft.rfft2(_windowed(turned)) * spectrum.conj()
    peak = fft.irfft2(cross / (np.abs(cross) + 1e-3 * np.abs(cross).mean()), s=grey.shape)
    peak = ndimage.gaussian_filter(peak, 1.0, mode="wrap")
    place = np.array(np.unravel_index(peak.argmax(), peak.shape))
    shift = np.array([_between(peak, place, axis) for axis in (0, 1)])
    shift = (shift + np.array(grey.shape) / 2) % grey.shape - np.array(grey.shape) / 2
    angle = np.deg2rad(degrees)  # found in the turned picture, wanted in the picture itself
    down, right = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ shift
    pose = Pose(degrees, float(down), float(right))
    return _alike(_moved(grey, pose, "nearest", 0.0), wanted), pose


def _between(peak: np.ndarray, place: np.ndarray, axis: int) -> float:
    """Where a peak lies between pixels: the top of the parabola through it and its neighbours."""
    line = peak[:, place[1]] if axis == 0 else peak[place[0]]
    low, top, high = (line[(place[axis] + k) % len(line)] for k in (-1, 0, 1))
    bend = low - 2 * top + high
    return float(place[axis] + (0.5 * (low - high) / bend if bend < 0 else 0.0))


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation in [-1, 1] of two grey images, their borders less than their middle."""
    weight = _window(one.shape)
    a, b = (values - (weight * values).sum() / weight.sum() for values in (one, other))
    return float((weight * a * b).sum() / np.sqrt((weight * a * a).sum() * (weight * b * b).sum() + 1e-12))


def _polar(grey: np.ndarray) -> np.ndarray:
    """(TURNS, R) magnitude of a spectrum by direction over half a circle and distance from its middle."""
    magnitude = fft.fftshift(np.log1p(np.abs(fft.fft2(_windowed(grey)))))
    middle = np.array(grey.shape) // 2
    radii = np.arange(4, min(grey.shape) // 2 - 1)
    angles = np.pi * np.arange(TURNS) / TURNS
    rows = middle[0] + np.sin(angles)[:, None] * radii * (grey.shape[0] / min(grey.shape))
    columns = middle[1] + np.cos(angles)[:, None] * radii * (grey.shape[1] / min(grey.shape))
    polar = ndimage.map_coordinates(magnitude, [rows, columns], order=1)
    return polar - polar.mean(0)


def _windowed(grey: np.ndarray) -> np.ndarray:
    window = _window(grey.shape)
    return (grey - (window * grey).sum() / window.sum()) * window


@lru_cache(maxsize=8)
def _window(shape: tuple[int, ...]) -> np.ndarray:
    return np.outer(*(np.hanning(size + 2)[1:-1] for size in shape))


def _grey(image: np.ndarray) -> np.ndarray:
    """(H, W) float64 grey levels of (3, H, W), at most `SIDE` pixels wide and high."""
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).convert("L")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(picture, np.float64)


@lru_cache(maxsize=64)
def _known(reference: str, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spectrum, polar spectrum and grey levels of a reference."""
    grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(reference))).convert("L"), np.float64)
    return fft.rfft2(_windowed(grey)), _polar(grey), grey
