"""Golden hand landmarks and presence from MediaPipe's own graph, release 0.10.21 (the last that carries the models).

Runs in an environment of its own, since that release pins numpy < 2:

    python3.11 -m venv golden
    golden/bin/pip install --no-deps mediapipe==0.10.21 numpy==2.2.6 opencv-python-headless==4.11.0.86 absl-py attrs \
        flatbuffers matplotlib "protobuf<6" av==18.1.0 contourpy cycler fonttools kiwisolver packaging pyparsing \
        python-dateutil six pillow
    golden/bin/python tests/references/make_mediapipe_golden.py MEDIA_FOLDER > tests/references/mediapipe_golden.json

The graph is hand_landmark_tracking_cpu with use_prev_landmarks off (every frame by itself), model complexity 1, two
hands. Its hand_presence_score stream is not part of any public result; it is read off the expanded graph.
"""

import json
import os
import sys
from pathlib import Path

import av
import mediapipe
import numpy as np
from mediapipe.framework import calculator_pb2
from mediapipe.python import packet_creator, packet_getter
from mediapipe.python._framework_bindings import calculator_graph, resource_util, validated_graph_config

CLIPS = ("hand_640x360.mp4", "gesture_1280x720.mp4")
EVERY = 5


def graph_config() -> calculator_pb2.CalculatorGraphConfig:
    package = os.path.dirname(mediapipe.__file__)
    resource_util.set_resource_dir(os.path.dirname(package))
    validated = validated_graph_config.ValidatedGraphConfig()
    validated.initialize(
        binary_graph_path=os.path.join(package, "modules/hand_landmark/hand_landmark_tracking_cpu.binarypb")
    )
    config = calculator_pb2.CalculatorGraphConfig()
    config.ParseFromString(validated.binary_config)
    return config


def observe(path: Path) -> list[dict]:
    graph = calculator_graph.CalculatorGraph(graph_config=graph_config())
    seen: dict[str, list] = {}

    def keep(stream: str, read) -> None:
        graph.observe_output_stream(stream, lambda name, packet: seen.setdefault(name, []).append(read(packet)))

    keep("multi_hand_landmarks", packet_getter.get_proto_list)
    keep("multi_hand_world_landmarks", packet_getter.get_proto_list)
    keep("handlandmarkcpu__hand_presence_score", packet_getter.get_float)
    side = {
        "num_hands": packet_creator.create_int(2),
        "model_complexity": packet_creator.create_int(1),
        "use_prev_landmarks": packet_creator.create_bool(False),
    }
    graph.start_run(side)
    result = []
    for index, frame in enumerate(av.open(str(path)).decode(video=0)):
        if index % EVERY:
            continue
        image = np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
        height, width = image.shape[:2]
        seen.clear()
        packet = packet_creator.create_image_frame(image_format=mediapipe.ImageFormat.SRGB, data=image)
        graph.add_packet_to_input_stream("image", packet.at(index + 1))
        graph.wait_until_idle()
        hands = seen.get("multi_hand_landmarks", [[]])[0]
        world = seen.get("multi_hand_world_landmarks", [[]])[0]
        result.append(
            {
                "frame": index,
                "landmarks": [[[round(p.x * width, 2), round(p.y * height, 2)] for p in h.landmark] for h in hands],
                "world": [[[round(v, 5) for v in (p.x, p.y, p.z)] for p in h.landmark] for h in world],
                # of every palm that was looked at, hands or not
                "presence": [round(v, 5) for v in seen.get("handlandmarkcpu__hand_presence_score", [])],
            }
        )
    graph.close()
    return result


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    golden = {"mediapipe": mediapipe.__version__, "every": EVERY, "clips": {c: observe(folder / c) for c in CLIPS}}
    json.dump(golden, sys.stdout)
