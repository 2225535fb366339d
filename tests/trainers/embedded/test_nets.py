"""Training of the shipped nets, in the smallest: the same command gives the same file, also after a stop."""

import numpy as np
import pytest
import torch

from ipa_bench.embedded import world
from ipa_bench.embedded.gesture import TEST_MOTION, TEST_POSTURES
from ipa_bench.errors import UserError
from tests.verbs import verb
from trainers.embedded.nets.image import _SHARPNESS, fit_heads, ranking
from trainers.embedded.nets.image import loss_parts as image_losses
from trainers.embedded.nets.loop import Descent, _share, descend
from trainers.embedded.nets.samples import FIRST, MOTIONS, POSTURES, attributes, clips, coarse, portraits, shifted
from trainers.embedded.nets.video import loss_parts, play


def command(kind, folder, *more):
    return ["embedded", "nets", kind, folder, "--people", "2", "--held-out", "1", "--steps", "2", "--jobs", "1", *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    assert [verb(*command(kind, folder)) for kind in ("video", "image", "joints")] == [0, 0, 0]
    return folder


@pytest.mark.parametrize("kind", ["video", "image", "joints"])
def test_the_same_command_gives_the_same_file(kind, trained, capsys):
    file = trained / f"{kind}.safetensors"
    first = file.read_bytes()
    (trained / f"{kind}.state.pt").unlink()
    file.unlink()
    assert verb(*command(kind, trained)) == 0
    assert file.read_bytes() == first
    assert "held out" in capsys.readouterr().out
    assert verb(*command(kind, trained, "--seed", "1")) == 2  # the kept state is of another seed
    assert "belongs to another configuration" in capsys.readouterr().err


def test_only_people_of_train_and_val_are_rendered(trained):
    """What is kept is what these people look like, and is not rendered again."""
    for split, first, count in (("train", FIRST["train"], 2), ("val", FIRST["val"], 1)):
        kept = clips(trained / f"clips_{split}", split, count, 1, pytest.fail)
        assert len(kept) == 2 * count
        assert np.array_equal(kept.frames[-1], world.clip(split, first + count - 1, 1).frames)
        pictures = portraits(trained / f"portraits_{split}", split, count, 1, pytest.fail)
        assert np.array_equal(pictures.images[-1, 1], world.clip(split, first + count - 1, 1, frames=1).frames[0])
        assert pictures.attributes[-1].tolist() == attributes(world.person_of(split, first + count - 1))
    assert FIRST["train"] >= 2192  # behind the people of pretraining, alignment and footage
    assert not set(POSTURES) & set(TEST_POSTURES)
    assert TEST_MOTION not in MOTIONS


class Stopped(Exception):
    pass


def test_a_stopped_run_goes_on_exactly(tmp_path):
    def run(file, until):
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 1)

        def losses(rng):
            x = torch.from_numpy(rng.standard_normal((8, 3)).astype(np.float32))
            return {"fit": (net(x)[:, 0] - x.sum(1)).square().mean(), "small": 0.01 * net.weight.square().sum()}

        def tell(step, total, parts):
            assert total == 60
            if step == until:
                raise Stopped

        descend(net, losses, Descent(60, 8, 0.1), file, "line", tell)
        return net

    whole = run(tmp_path / "whole", None)
    with pytest.raises(Stopped):
        run(tmp_path / "part", 33)
    assert torch.load(tmp_path / "part", weights_only=True)["step"] == 20
    assert torch.equal(run(tmp_path / "part", None).weight, whole.weight)
    assert float((whole.weight.detach() - 1).abs().max()) < 0.1
    with pytest.raises(UserError, match="another configuration"):
        descend(whole, dict, Descent(61, 8, 0.1), tmp_path / "part", "line", print)


def test_the_rate_rises_for_a_tenth_and_falls_to_almost_0():
    shares = [_share(step, 100) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9] == shares[10] == 1.0
    assert shares[55] == pytest.approx(0.5)
    assert np.all(np.diff(shares[:10]) > 0)
    assert np.all(np.diff(shares[10:]) < 0)
    assert 0 < shares[-1] < 0.001


def test_heads_learn_to_rank_where_equal_weights_cannot():
    """The first channel grows with strength and not with harmless changes; the second, larger, does the opposite."""
    rng = np.random.default_rng(0)
    strength = np.array([1.0, 2.0, 4.0])[None, None] + 0.1 * rng.random((20, 6, 3))
    ladders = torch.from_numpy(np.stack([strength, 30 / strength], -1)).float()
    harmless = torch.tensor([0.1, 40.0]).expand(20, 2, 2)
    equal, learned = torch.tensor([0.5, 0.5]), fit_heads(ladders, harmless, (1, 1))
    assert ranking(ladders, harmless, equal)["all"] < 0.6
    assert ranking(ladders, harmless, equal)["harmless"] == 0
    assert ranking(ladders, harmless, learned)["all"] == 1
    assert ranking(ladders, harmless, learned)["harmless"] == 1
    assert float(learned.min()) >= 0
    assert float((ladders @ learned).mean()) == pytest.approx(float((ladders @ equal).mean()), rel=1e-5)


def test_damage_by_hand():
    image = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    assert shifted(image, 1)[0, :, 0].tolist() == [0, 0, 3, 6]
    blocks = coarse(image, 2)
    assert blocks[:, :, 0].tolist() == [[8, 8, 14, 14]] * 2  # means 7.5 and 13.5, halves to even


def test_only_windows_in_order_are_asked_about_gestures():
    truth = {"played": torch.tensor([1, 2])}
    answers = {"played": torch.zeros(2, 3)}
    assert set(loss_parts(answers, truth)) == {"played"}
    assert float(loss_parts(answers, truth)["played"]) == pytest.approx(np.log(3))
    frames = np.arange(16)
    assert play(frames, 0, np.random.default_rng(0)).tolist() == list(range(16))
    assert sorted(play(frames, 1, np.random.default_rng(0))) == list(range(16))
    assert play(frames, 2, np.random.default_rng(0)).tolist() == list(range(15, -1, -1))


def test_people_are_told_apart_by_their_pairs():
    """Two people with orthogonal pictures, each pair equal: the loss is that of logits 1 / sharpness and 0."""
    truth = {"attributes": torch.full((4, 6), -1), "colours": torch.zeros(4, 9), "flexion": torch.zeros(4, 10)}
    sizes = {"hair_style": 5, "shirt": 4, "glasses": 2, "cuff": 2, "skin": 8, "hair": 8}
    answers = {name: torch.zeros(4, size) for name, size in sizes.items()}
    answers |= {"colours": torch.zeros(4, 9), "flexion": torch.ones(4, 10)}
    answers["person"] = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = image_losses(answers, truth)
    assert float(found["person"]) == pytest.approx(0.3 * np.log1p(np.exp(-1 / _SHARPNESS)), rel=1e-3)
    assert float(found["flexion"]) == pytest.approx(20)
    answers["person"] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])  # pairs crossed
    assert float(image_losses(answers, truth)["person"]) == pytest.approx(0.3 * (1 / _SHARPNESS), rel=1e-3)
