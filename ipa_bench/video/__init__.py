"""The only room that decodes, encodes, resizes or hashes pixels. Nobody else imports ``av``."""

from ipa_bench.files import file_sha256
from ipa_bench.video.keep import Keeper
from ipa_bench.video.read import (
    DECODER,
    STILL_SUFFIXES,
    VIDEO_SUFFIXES,
    Frame,
    PixelHasher,
    ResizePolicy,
    VideoInfo,
    encode,
    encode_bytes,
    load,
    picture,
    pictures_shared,
    pixel_sha256,
    probe,
    read_at,
    read_bytes,
    read_frames,
    resize,
    video_from_frames,
)

__all__ = [
    "DECODER",
    "STILL_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Frame",
    "Keeper",
    "PixelHasher",
    "ResizePolicy",
    "VideoInfo",
    "encode",
    "encode_bytes",
    "file_sha256",
    "load",
    "picture",
    "pictures_shared",
    "pixel_sha256",
    "probe",
    "read_at",
    "read_bytes",
    "read_frames",
    "resize",
    "video_from_frames",
]
