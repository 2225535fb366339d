"""The cache loses nothing but time."""

import numpy as np
import pytest

from ipa_bench.cache import Cache, digest


def test_what_is_put_is_got(tmp_path):
    cache = Cache(tmp_path)
    cache.put("hands@1", "ab12", {"x": np.arange(5), "name": np.array("é")})
    entry = cache.get("hands@1", "ab12")
    assert entry["x"].tolist() == [0, 1, 2, 3, 4]
    assert str(entry["name"]) == "é"
    assert cache.get("hands@2", "ab12") is None
    assert cache.get("hands@1", "ab13") is None


@pytest.mark.parametrize("damage", [b"", b"not a zip", None])
def test_a_damaged_entry_is_no_entry(tmp_path, damage):
    cache = Cache(tmp_path)
    cache.put("k", "abcd", {"x": np.arange(1000)})
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:200] if damage is None else damage)
    assert cache.get("k", "abcd") is None
    cache.put("k", "abcd", {"x": np.arange(3)})
    assert cache.get("k", "abcd")["x"].tolist() == [0, 1, 2]


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "k" / "ab" / "abcd.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert Cache(tmp_path).get("k", "abcd") is None


def test_where_it_cannot_write_it_says_so_once_and_goes_on(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file")
    with pytest.warns(RuntimeWarning, match="not cached"):
        cache.put("k", "abcd", {"x": np.arange(3)})
    cache.put("k", "abcd", {"x": np.arange(3)})  # silent now
    assert cache.get("k", "abcd") is None
    assert not list(tmp_path.glob("**/.*"))


def test_keys_are_stable_and_tell_values_apart():
    assert digest("a", 1, [1.5]) == digest("a", 1, [1.5])
    assert digest("a", 1) != digest("a1")
    assert len({digest(x) for x in ("1", 1, [1], None)}) == 4
