"""MediaPipe's networks on LiteRT: palms, landmarks, bodies; and its own runtime as a second way to find hands."""
