"""Encoded sounds to samples at the rate that a model wants."""

from __future__ import annotations

import importlib.util
import io
import math
import wave
from typing import Any

import numpy as np
import numpy.typing as npt

from stoker.models.tasks.media import media_bytes
from stoker.nouns.errors import BadRequest

Samples = npt.NDArray[np.float32]

LEAST_RATE, MOST_RATE = 1000, 384_000
_ZEROS = 16
"""Zero crossings of the filter on each side: a stop band below 1/1000."""
_ROLLOFF = 0.95


def sound(value: Any) -> tuple[Samples, int]:
    """The samples of one input, one channel from -1 to 1, and how many are a second.

    Raises:
        BadRequest: it cannot be read.
    """
    data = media_bytes(value, "a sound")
    if importlib.util.find_spec("soundfile") is not None:
        samples, own = _by_soundfile(data)
    else:
        samples, own = _by_wave(data)
    if not samples.size:
        raise BadRequest("the sound has no samples")
    if not LEAST_RATE <= own <= MOST_RATE:
        raise BadRequest(f"the sound must have {LEAST_RATE} to {MOST_RATE} Hz, was {own}")
    return samples, own


def resampled(samples: Samples, own: int, rate: int) -> Samples:
    """Samples at another rate, by a windowed sinc filter below both Nyquist frequencies.

    Dropping samples instead would fold the high tones into the speech.
    """
    if own == rate:
        return samples
    common = math.gcd(own, rate)
    up, down = rate // common, own // common
    cutoff = _ROLLOFF * min(1.0, rate / own)
    reach = math.ceil(_ZEROS / cutoff)
    count = math.ceil(len(samples) * up / down)
    padded = np.pad(samples, (reach, reach + 1))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    made = np.empty(count, dtype=np.float32)
    # One output in `up` lies at the same place between two inputs: they share a filter.
    for phase in range(min(up, count)):
        at, part = divmod(phase * down, up)
        rows = windows[at::down][: len(made[phase::up])]
        made[phase::up] = rows @ _filter(part / up, cutoff, reach)
    return made


def _filter(offset: float, cutoff: float, reach: int) -> Samples:
    """The taps for an output that lies ``offset`` of a sample behind an input."""
    t = (np.arange(-reach, reach + 1) - offset) * cutoff
    hann = np.where(np.abs(t) < _ZEROS, np.cos(np.pi * t / (2 * _ZEROS)) ** 2, 0.0)
    taps = np.sinc(t) * hann
    unit: Samples = (taps / taps.sum()).astype(np.float32)
    return unit


def _by_wave(data: bytes) -> tuple[Samples, int]:
    try:
        with wave.open(io.BytesIO(data)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError, ValueError, RuntimeError) as exc:
        raise BadRequest(
            f"the {len(data)} bytes are no PCM WAV file: {exc or 'it is cut off'}; other formats "
            "need the package soundfile"
        ) from exc
    whole = len(frames) - len(frames) % (width * channels)
    return _pcm(frames[:whole], width).reshape(-1, channels).mean(1, dtype=np.float32), rate


def _pcm(frames: bytes, width: int) -> Samples:
    if width == 1:
        return np.frombuffer(frames, np.uint8).astype(np.float32) / 128 - 1
    if width == 2:
        return np.frombuffer(frames, "<i2").astype(np.float32) / 2**15
    if width == 4:
        return (np.frombuffer(frames, "<i4") / 2**31).astype(np.float32)
    if width != 3:
        raise BadRequest(f"the WAV file has samples of {8 * width} bits; 8, 16, 24 and 32 are read")
    bytes_of = np.frombuffer(frames, np.uint8).reshape(-1, 3)
    wide = np.zeros((len(bytes_of), 4), np.uint8)
    wide[:, 1:] = bytes_of
    return (wide.view("<i4")[:, 0] / 2**31).astype(np.float32)


def _by_soundfile(data: bytes) -> tuple[Samples, int]:
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as exc:
        raise BadRequest(f"the {len(data)} bytes are no sound that can be read: {exc}") from exc
    return samples.mean(1, dtype=np.float32), int(rate)
