"""Files that cannot be read, or not whole: what is wrong is said, and good frames are yielded first."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.errors import Unscorable
from tests import clips
from tests.clips import reason, until_error


def test_files_that_are_no_video_say_so(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "notes.txt").write_text("hello\n" * 200)
    (tmp_path / "junk.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    assert "no such file" in reason(tmp_path / "absent.mp4")
    assert "empty" in reason(tmp_path / "empty.mp4")
    assert "folder" in reason(tmp_path / "folder.mp4")
    assert "video" in reason(tmp_path / "notes.txt")
    assert "video" in reason(tmp_path / "junk.mp4")
    assert "no video stream" in reason(clips.write_audio(tmp_path / "sound.m4a"))
    assert "no video stream" in reason(clips.write_audio(tmp_path / "cover.m4a", cover=True))
    assert "cannot be read" in reason(tmp_path / "nul\0.mp4")
    with pytest.raises(Unscorable, match=r"absent\.mp4: no such file"):
        video.probe(tmp_path / "absent.mp4")


def test_index_cut_off(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", clips.noise(20))  # index at the end
    path.write_bytes(path.read_bytes()[:-200])
    assert "cut off before its index" in reason(path)


def cut_clip(path: Path, keep: float) -> tuple[int, str]:
    """Frames read before the error, and the error, of 40 frames of which the file holds the first part."""
    video.encode(clips.noise(40), path, 25)
    data = path.read_bytes()
    payload = data.index(b"mdat")
    path.write_bytes(data[: payload + int((len(data) - payload) * keep)])
    return until_error(path)


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.77, 0.99])
def test_truncated_file_yields_its_good_frames_first(tmp_path: Path, keep: float) -> None:
    read, why = cut_clip(tmp_path / "cut.mp4", keep)
    assert 0 < read < 40
    assert why == f"cut.mp4: truncated: {read} of 40 frames decode"
    whole = {frame.time: frame.image for frame in video.read_bytes(video.encode_bytes(clips.noise(40), 25))}
    for good in islice(video.read_frames(tmp_path / "cut.mp4"), read):
        np.testing.assert_array_equal(good.image, whole[good.time])


def test_truncation_between_packets_is_noticed(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", clips.noise(20), options={"bf": "0"}, muxer={"movflags": "+faststart"})
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    data = path.read_bytes()
    at = data.index(bytes(packets[12])[-40:]) + 40  # exactly behind the 13th packet
    path.write_bytes(data[:at])
    assert reason(path) == "a.mp4: truncated: 13 of 20 frames decode"


def test_truncated_matroska_is_noticed_by_its_duration(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mkv", clips.noise(40), codec="ffv1", pix_fmt="bgr0")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read, why = until_error(path)
    assert 10 < read < 30
    assert why == f"a.mkv: truncated: {read} frames decode"


@pytest.mark.parametrize("name", ["hand.mp4", "gesture.mp4"])
def test_truncated_real_footage(media: Path, tmp_path: Path, name: str) -> None:
    data = (media / name).read_bytes()  # their index is at the front
    (tmp_path / name).write_bytes(data[: len(data) * 6 // 10])
    read, why = until_error(tmp_path / name)
    assert read > 12
    assert why == f"{name}: truncated: {read} of {50 if 'hand' in name else 52} frames decode"


def test_clip_trimmed_by_an_edit_list_is_whole(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "trim.mp4", clips.noise(40), options={"bf": "0", "g": "10"})
    clips.trim_by_edit_list(path, start=512 * 10, length=40 * 15)  # 15 frames of 40 ms, in movie ticks of 1 ms
    assert video.probe(path).declared_frames == 40
    frames = list(video.read_frames(path))
    assert len(frames) == 15
    assert frames[-1].time == 0.56


@pytest.mark.parametrize(("bframes", "damage"), [("0", "lost blocks"), ("3", "lost blocks"), ("0", "Invalid data")])
def test_damaged_packets_stop_reading(tmp_path: Path, bframes: str, damage: str) -> None:
    path = clips.write(tmp_path / "a.mp4", clips.noise(40), options={"bf": bframes, "g": "40"})
    with av.open(str(path)) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    at = data.index(packets[20])
    start, length = (len(packets[20]) // 2, 6) if damage == "lost blocks" else (0, len(packets[20]))
    data[at + start : at + start + length] = bytes(byte ^ 0x5A for byte in data[at + start : at + start + length])
    path.write_bytes(data)
    read, why = until_error(path)
    assert 15 < read < 25
    assert why.startswith(f"a.mp4: damaged after {read} frames: {damage}")


def test_a_last_frame_that_stays_long_is_no_truncation(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", clips.noise(10), hold=50, options={"bf": "0"})
    assert video.probe(path).duration == pytest.approx(2.36)
    assert len(list(video.read_frames(path))) == 10


def test_frames_that_change_size_are_refused(tmp_path: Path) -> None:
    wide = clips.write(tmp_path / "wide.h264", clips.noise(5), format="h264")
    square = clips.write(tmp_path / "square.h264", clips.noise(5, 64, 64), format="h264")
    (tmp_path / "both.h264").write_bytes(wide.read_bytes() + square.read_bytes())
    assert reason(tmp_path / "both.h264") == "both.h264: frames change size after 5 frames"


def test_a_tag_in_another_encoding_does_not_matter(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "a.mp4", clips.noise(2), title="cafe")
    path.write_bytes(path.read_bytes().replace(b"cafe", b"caf\xe9"))
    assert len(list(video.read_frames(path))) == 2


def test_a_playlist_does_not_reach_the_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n")
        assert reason(tmp_path / "list.m3u8")
        with pytest.raises(BlockingIOError):  # nobody has called
            server.accept()


def test_libav_stays_silent_on_damaged_files(tmp_path: Path) -> None:
    cut_clip(tmp_path / "cut.mp4", 0.5)
    (tmp_path / "junk.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(400))
    code = f"""
from ipa_bench import video
from ipa_bench.errors import Unscorable
for name in ("cut.mp4", "junk.mp4"):
    try:
        list(video.read_frames({str(tmp_path)!r} + "/" + name))
    except Unscorable as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.count("\n") == 2
    assert run.stderr == ""


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("lost", [1, 3])
def test_a_lost_packet_of_a_stream_is_damage_and_a_cut_stream_is_cut(tmp_path: Path, place: float, lost: int) -> None:
    """Packets of 188 bytes; what follows a lost one decodes."""
    path = tmp_path / "a.ts"
    raw = transport_stream(path)
    at = 188 * int(len(raw) // 188 * place)
    while not carries_video(raw[at:]):  # a lost table is sent again soon: nothing is missing
        at += 188
    path.write_bytes(raw[:at] + raw[at + 188 * lost :])
    assert re.fullmatch(r"a\.ts: damaged after \d+ frames: (a packet is lost|lost blocks)", reason(path))
    path.write_bytes(raw[: at + 70])
    assert re.fullmatch(r"a\.ts: truncated: \d+ frames decode", reason(path))


def test_a_stream_that_is_cut_in_any_kind_of_packet_is_cut(tmp_path: Path) -> None:
    """The first packet of a picture and a table too, before which every picture is whole."""
    path = tmp_path / "a.ts"
    raw = transport_stream(path)
    packets = range(188 * 200, len(raw), 188)
    begins = next(at for at in packets if carries_video(raw[at:]) and raw[at + 1] & 0x40)
    table = next(at for at in packets if not carries_video(raw[at:]))
    for at in (begins, table):
        path.write_bytes(raw[: at + 70])
        assert re.fullmatch(r"a\.ts: truncated: \d+ frames decode", reason(path))


def carries_video(packet: bytes) -> bool:
    """Whether a packet of a transport stream belongs to the first stream, 0x100 by libav's count."""
    assert packet[0] == 0x47
    return (packet[1] & 0x1F, packet[2]) == (1, 0)


def transport_stream(path: Path) -> bytes:
    """60 frames of noise; the bytes of what is at ``path`` now."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for index in range(60):
            image = np.random.default_rng(index).integers(0, 255, (96, 160, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path.read_bytes()
