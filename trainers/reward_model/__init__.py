"""A video reward model of who is who: what it sees of a clip, its backbones, how it is trained and measured."""
