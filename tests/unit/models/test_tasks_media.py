"""Pictures and sounds: what is read, what is refused, and what the model makes of them."""

import base64
import io
import math
import wave

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import tiny_tasks
from stoker.models.oip.tensor import Tensor
from stoker.models.tasks import open_task, pictures
from stoker.models.tasks.sounds import resampled, sound
from stoker.nouns.errors import BadRequest
from stoker.nouns.settings import ModelSettings, Task

pytestmark = pytest.mark.models


def opened(folder, task, build):
    settings = ModelSettings(task=task)
    return open_task(build(folder), folder, tiny_tasks.manifest(task), settings)


@pytest.fixture(scope="module")
def seer(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("vit"), Task.IMAGE_CLASSIFICATION, tiny_tasks.vit)


@pytest.fixture(scope="module")
def hearer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    return opened(folder, Task.AUTOMATIC_SPEECH_RECOGNITION, tiny_tasks.whisper)


def painted(seed=0, size=(30, 20)):
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels, "RGB")


def file_of(image, kind="PNG"):
    made = io.BytesIO()
    image.save(made, kind)
    return made.getvalue()


def tone(seconds=0.5, rate=16000, hz=440.0):
    return np.sin(2 * math.pi * hz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def wav(samples, rate=16000, width=2, channels=1):
    scaled = np.repeat(samples, channels).astype(np.float64) * (2 ** (8 * width - 1) - 1)
    if width == 1:
        frames = (scaled + 128).astype(np.uint8).tobytes()
    elif width == 3:
        frames = scaled.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    else:
        frames = scaled.astype(f"<i{width}").tobytes()
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(frames)
    return made.getvalue()


def test_a_picture_gets_the_labels_of_the_pipeline(seer):
    processor = transformers.AutoImageProcessor.from_pretrained(seer.folder, backend="pil")
    pipeline = transformers.pipeline(
        "image-classification", model=seer._module, image_processor=processor
    )
    images = [painted(seed) for seed in range(3)]
    for ours, theirs in zip(seer(images), pipeline(images, top_k=3), strict=True):
        assert [one["label"] for one in ours] == [one["label"] for one in theirs]
        scores = [one["score"] for one in theirs]
        assert [one["score"] for one in ours] == pytest.approx(scores, rel=1e-4)


def test_every_way_to_send_a_picture_is_the_same_picture(seer):
    image = painted()
    data = file_of(image)
    text = base64.b64encode(data).decode()
    expected = seer([image])[0]
    for sent in (data, text, f"data:image/png;base64,{text}"):
        assert seer([sent])[0] == expected


def test_pixels_come_as_a_tensor_too(seer):
    images = [painted(1), painted(2)]
    pixels = Tensor("image", "UINT8", np.stack([np.asarray(image) for image in images]))
    assert seer(seer.inputs_from({"image": pixels})) == seer(images)
    files = np.empty(2, object)
    files[:] = [file_of(image) for image in images]
    assert seer(seer.inputs_from({"image": Tensor("image", "BYTES", files)})) == seer(images)
    with pytest.raises(BadRequest, match=r"\[n, height, width, 3\]"):
        seer.inputs_from({"image": Tensor("image", "UINT8", np.zeros((2, 3, 8, 8), np.uint8))})


def test_a_photo_is_turned_as_its_camera_was_held(seer):
    upright = painted(3)
    exif = upright.getexif()
    exif[0x0112] = 3
    turned = io.BytesIO()
    upright.rotate(180).save(turned, "PNG", exif=exif)
    assert seer([turned.getvalue()]) == seer([upright])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"GIF89a", "image"),
        (b"", "no image that can be read"),
        ("not base64!", "not valid base64"),
        ("data:image/png;base64", "comma"),
        ("http://localhost/secret.png", "no URL is fetched"),
        (7, "must be base64 or a data: URL"),
        (None, "was a NoneType"),
        (file_of(painted())[:200], "damaged"),
    ],
)
def test_what_is_no_picture_is_refused(seer, value, message):
    with pytest.raises(BadRequest, match=message):
        seer([value])


def test_a_picture_that_declares_too_many_pixels_is_refused_unread(seer, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 500)
    with pytest.raises(BadRequest, match="has 30x20 pixels; at most 500"):
        seer([file_of(painted())])


def test_words_are_those_of_the_model_itself(hearer):
    sounds = [tone(0.5), tone(0.9, hz=900)]
    processor = transformers.AutoProcessor.from_pretrained(hearer.folder)
    features = processor.feature_extractor(
        sounds, sampling_rate=16000, return_tensors="pt", return_attention_mask=True
    )
    with torch.inference_mode():
        tokens = hearer._module.generate(features.input_features)
    expected = processor.batch_decode(tokens, skip_special_tokens=True)
    assert hearer(sounds) == [{"text": text} for text in expected]
    assert len(set(expected)) == 2


def test_a_file_and_its_samples_are_the_same_sound(hearer):
    samples = tone(0.5)
    file = wav(samples)
    text = base64.b64encode(file).decode()
    heard = hearer([sound(file)[0]])
    assert hearer([file, text]) == heard * 2
    tensor = Tensor("audio", "FP32", sound(file)[0][None])
    assert hearer(hearer.inputs_from({"audio": tensor})) == heard


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_width_of_pcm_is_read(width, channels):
    samples, rate = sound(wav(tone(), 8000, width, channels))
    assert rate == 8000
    np.testing.assert_allclose(samples, tone(), atol=2.2 / 2 ** (8 * min(width, 3) - 1))


@pytest.mark.parametrize("own", [8000, 22050, 44100, 48000])
def test_a_tone_is_the_same_tone_at_another_rate(own):
    ours, theirs = resampled(tone(0.2, own), own, 16000), tone(0.2, 16000)
    assert len(ours) == len(theirs)
    np.testing.assert_allclose(ours[300:-300], theirs[300:-300], atol=1e-3)


def test_tones_that_the_new_rate_cannot_hold_vanish_rather_than_turn_into_others():
    heard = resampled(tone(0.2, 44100, hz=10000.0), 44100, 16000)
    assert np.abs(heard[300:-300]).max() < 2e-3


def test_the_rate_of_samples_can_be_said(hearer):
    expected = hearer([resampled(tone(0.5, 8000), 8000, 16000)])
    assert hearer([tone(0.5, 8000)], {"sampling_rate": 8000}) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"RIFF", "no PCM WAV file"),
        (b"", "no PCM WAV file"),
        (wav(tone())[:30], "no PCM WAV file"),
        (wav(np.zeros(0, np.float32)), "no samples"),
        (wav(tone(), rate=10), "1000 to 384000 Hz, was 10"),
        (wav(tone(2.0)), "takes 2.0 s, the model hears 1 s at once"),
        (np.array([0.1, np.nan, 0.2], np.float32), "must be finite numbers"),
        (np.array([0.1, 1e300]), "must be finite numbers"),
        ("@", "not valid base64"),
    ],
)
def test_what_is_no_sound_is_refused(hearer, value, message):
    with pytest.raises(BadRequest, match=message):
        hearer([value])


def test_languages_are_called_by_code_or_name_and_others_refused(hearer, monkeypatch):
    known = {"<|en|>": 5, "<|de|>": 6}
    monkeypatch.setattr(hearer._module.generation_config, "lang_to_id", known, raising=False)
    for language in ("de", "German", "EN"):
        assert hearer.options({"language": language}).language == language
    with pytest.raises(BadRequest, match="does not know 'klingon'; it knows de, en"):
        hearer.options({"language": "klingon"})


def test_more_words_than_the_model_writes_are_refused(hearer):
    with pytest.raises(BadRequest, match="max_new_tokens: must be at most 20, was 21"):
        hearer.options({"max_new_tokens": 21})
    hearer([tone()], {"max_new_tokens": 18})


def test_a_model_of_one_language_translates_nothing(hearer):
    with pytest.raises(BadRequest, match="knows one language only"):
        hearer([tone()], {"translate": True})
