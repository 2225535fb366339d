"""Post-training of video models on their own good samples. Never imported by the benchmark harness."""
