"""Golden boxes, points and embeddings of real faces by OpenCV's own runtime, and by dlib's.

The pictures are cut from the folder of real footage (Apache-2.0) and from scikit-image's astronaut (public domain),
shrunk, turned, darkened or mirrored, and stored as JPEG with the numbers. OpenCV 5 and ONNX Runtime refuse the file of
SFace because it lists inputs that are none (some of no shape); a copy with its one input is made here, its weights
untouched.

    pip install --target FOLDER opencv-python-headless==5.0.0.93
    DLIB_FACE=PROGRAM IPA_BENCH_MEDIA=MEDIA PYTHONPATH=.:FOLDER python tests/references/make_faces_golden.py

where PROGRAM is ``dlib_face.cpp`` beside this file, built with dlib's own sources.
"""

import io
import json
import os
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage import data

from ipa_bench import video, weights
from ipa_bench.nets import dlib_face
from ipa_bench.nets.align import aligned
from ipa_bench.nets.onnx import fields

FOLDER = Path(__file__).parent
MEDIA = Path(os.environ["IPA_BENCH_MEDIA"])
DLIB = "20.0.1"
#: above it OpenCV's default; turned faces score less
SCORE = 0.6
SOURCES = (
    "cut from google-ai-edge/mediapipe-samples (Apache-2.0: glasses, sitting, gesture, two) and from "
    "scikit-image's astronaut (NASA, public domain); shrunk, turned, mirrored, darkened"
)
#: JPEG quality of the stored pictures
QUALITY = 88
#: frames of the clip of a gesture, in which the head turns
FRAMES = (0, 24, 48, 72, 96, 120, 144, 168)
#: its face with a margin, pixels: left, top, right, bottom
CLIP_BOX = (380, 60, 830, 600)


def pictures():
    """Name -> PIL picture, of one or several faces."""
    people = MEDIA / "people"
    glasses = Image.open(people / "one_woman_glasses_958x1358.jpg").convert("RGB").crop((270, 40, 710, 560))
    sitting = Image.open(people / "one_woman_sitting_960x640.jpg").convert("RGB").crop((230, 20, 430, 200))
    walking = Image.open(people / "two_people_walking_370x334.jpg").convert("RGB").crop((150, 0, 310, 80))
    astronaut = Image.fromarray(data.astronaut()).crop((130, 10, 330, 230))
    clip = [Image.fromarray(frame) for frame, _ in video.read_frames(MEDIA / "gesture_1280x720.mp4")]
    gestures = [clip[index].crop(CLIP_BOX) for index in FRAMES]
    found = {
        f"gesture_{index}": high(each, 170 - 10 * n)
        for n, (index, each) in enumerate(zip(FRAMES, gestures, strict=True))
    }
    for name, image in {"glasses": glasses, "sitting": sitting, "astronaut": astronaut}.items():
        found |= {f"{name}_{height}": high(image, height) for height in (180, 110, 64)}
        found[f"{name}_turned"] = high(image.rotate(18, Image.Resampling.BICUBIC), 150)
        found[f"{name}_mirrored_dark"] = high(image, 130).transpose(Image.Transpose.FLIP_LEFT_RIGHT).point(dim)
    found["two"] = walking.resize((480, 240), Image.Resampling.BICUBIC)
    found["four"] = Image.new("RGB", (460, 230), (90, 110, 100))
    for n, each in enumerate((high(glasses, 120), high(astronaut, 110), high(gestures[3], 100), high(sitting, 110))):
        found["four"].paste(each, (3 + 115 * n, 10 + 30 * n))
    return found


def high(image, height):
    """Shrunk to that height."""
    return image.resize((round(image.width * height / image.height), height), Image.Resampling.LANCZOS)


def dim(value):
    """Half as bright."""
    return value // 2


def stored(image):
    """JPEG bytes of a picture, and the pixels [H, W, 3] that come out of them."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue(), np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))


# ---------------------------------------------------------------------------------------------------------------------
# OpenCV


def varint(value):
    """The bytes of a protobuf number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def written(parts):
    """A protobuf message of numbers and byte fields."""
    made = b""
    for number, value in parts:
        if isinstance(value, int):
            made += varint(number << 3) + varint(value)
        else:
            made += varint(number << 3 | 2) + varint(len(value)) + value
    return made


def without_stale_inputs(file):
    """The model with "data" as the only input of its graph (field 7, inputs are its field 11, names their field 1)."""
    model = list(fields(file))
    graph = next(list(fields(value)) for number, value in model if number == 7)
    kept = [(n, v) for n, v in graph if n != 11 or dict(fields(v))[1] == b"data"]
    print(len(graph) - len(kept), "stale inputs removed")
    return written([(n, written(kept) if n == 7 else v) for n, v in model])


def opencv(images):
    """Name -> box, points, score and embedding of each face, the surest first."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / "sface.onnx"
        clean.write_bytes(without_stale_inputs(weights.path("sface").read_bytes()))
        recognizer = cv2.FaceRecognizerSF.create(str(clean), "")
    for name, pixels in images.items():
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        size = (pixels.shape[1], pixels.shape[0])
        detector = cv2.FaceDetectorYN.create(str(weights.path("yunet")), "", size, SCORE, 0.3, 100)
        faces = detector.detect(bgr)[1]
        faces = np.zeros((0, 15), np.float32) if faces is None else faces[np.argsort(-faces[:, 14], kind="stable")]
        embedded = [recognizer.feature(recognizer.alignCrop(bgr, face))[0] for face in faces]
        found[name] = faces, np.array(embedded, np.float32).reshape(-1, 128)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# dlib


def by_dlib(images, faces):
    """Name -> dlib's own numbers of the faces, aligned by this project; None where the program is not named."""
    program = os.environ.get("DLIB_FACE")
    if not program:
        return None
    found = {}
    for name, pixels in images.items():
        points = faces[name][0][:, 4:14].reshape(-1, 5, 2)
        chips = aligned(pixels, points, dlib_face.POINTS, dlib_face.SIDE).permute(0, 2, 3, 1).byte().numpy()
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(np.ascontiguousarray(chips).tobytes())
            command = [program, str(weights.path("dlib_face")), file.name]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found[name] = np.array([[float(v) for v in line.split()] for line in out.splitlines()]).reshape(-1, 128)
    return found


def main():
    """Write ``faces_golden.npz`` and ``faces_golden.json`` beside this file."""
    arrays, images = {}, {}
    about = {"pictures": SOURCES, "opencv": cv2.__version__, "dlib": None, "score": SCORE, "pixels": {}}
    for name, image in pictures().items():
        jpeg, images[name] = stored(image)
        arrays[f"{name}.jpeg"] = np.frombuffer(jpeg, np.uint8)
        about["pixels"][name] = sha256(images[name].tobytes()).hexdigest()
    faces = opencv(images)
    for name, (rows, embedded) in faces.items():
        arrays |= {f"{name}.faces": rows, f"{name}.sface": embedded}
        print(name, images[name].shape, len(rows), "faces", rows[:, 14].round(3))
    if (own := by_dlib(images, faces)) is not None:
        about["dlib"] = DLIB
        arrays |= {f"{name}.dlib": each.astype(np.float32) for name, each in own.items()}
    np.savez_compressed(FOLDER / "faces_golden.npz", **arrays)
    (FOLDER / "faces_golden.json").write_text(json.dumps(about, indent=1) + "\n")
    print(sum(len(rows) for rows, _ in faces.values()), "faces")


if __name__ == "__main__":
    main()
