"""The split of the benchmark that tunes on one painter: nothing of his may reach the base, nothing held out his tuning.

Not in the notebooks because it is a script beside them."""
import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]/"benchmarks"))
import finetune
from paintsr_nb.data.hashes import find_alike
from paintsr_nb.picture import write_picture
from paintsr_nb.samples import samples

PICTURES = pd.DataFrame([
    ("paintings/train/a.png", "Claude Monet", "monet", "tune"),
    ("paintings/train/b.png", "Claude Monet", "monet", "tune"),
    ("paintings/test/c.png", "Claude Monet", "monet", "held"),
    ("paintings2/d.png", "Claude Monet", "monet", "held"),
    ("paintings/train/e.png", "Circle of Rembrandt", "rembrandt", "none"),
    ("paintings/train/f.png", "Edgar Degas", "", "base"),
    ("paintings/test/g.png", "Pieter Bruegel the Elder", "", "none"),
    ("photos/h.png", "", "", "base"),
    ("photos/house-of-monet.png", "", "monet", "none"),
], columns=["path", "painter", "owner", "use"]).assign(halve=False)


def split_of(pictures): return finetune.split_of(pictures[["path", "painter", "halve"]])


def test_painters_are_found_by_name():
    found = split_of(PICTURES)
    assert list(found.owner) == list(PICTURES.owner)
    assert list(found.use) == list(PICTURES.use)


def test_copies_do_not_leak(tmp_path):
    "A held-out picture, mirrored in the base and halved in the tuning."
    shown = [sample.high[:1200, :1200] for sample in samples(["dahlia", "pagoda", "espresso", "cat"])]
    pixels = dict(a=shown[0], b=shown[1][::2, ::2].copy(), c=shown[1], f=shown[1][:, ::-1].copy(), h=shown[2])
    rows = PICTURES[[Path(path).stem in pixels for path in PICTURES.path]]
    for path in rows.path: write_picture(tmp_path/path, pixels[Path(path).stem])
    found = split_of(rows.reset_index(drop=True))
    prints = finetune.prints_of(tmp_path, tmp_path, list(found.path), 1)
    cleaned = finetune.without_copies(found, find_alike(prints)).set_index("path")
    assert cleaned.use.to_dict() == {
        "paintings/train/a.png": "tune",
        "paintings/train/b.png": "none",
        "paintings/test/c.png": "held",
        "paintings/train/f.png": "none",
        "photos/h.png": "base",
    }
    assert "paintings/test/c.png" in cleaned.why["paintings/train/f.png"]


class FakeStore:
    "Ids by the name of the store."
    found = {}
    def __init__(self, path): self.name = path.name
    def ids(self, split=None): return self.found[self.name]


@pytest.mark.parametrize("store,ids,said", [
    ("base", ["f", "a"], "the base would see a"),
    ("base", ["f", "e"], "the base would see e"),
    ("monet", ["a", "c"], "Claude Monet would see c"),
    ("monet", ["a", "f"], "Claude Monet would see f"),
    ("monet", ["a"], "1 pictures of Claude Monet"),
])
def test_a_store_that_leaks_is_refused(monkeypatch, tmp_path, store, ids, said):
    monkeypatch.setattr(finetune, "Store", FakeStore)
    monkeypatch.setattr(finetune, "PAINTERS", dict(monet="Claude Monet"))
    monkeypatch.setattr(FakeStore, "found", dict(base=["f", "h"], monet=["a", "b"]))
    finetune.check_stores(tmp_path, PICTURES, 2)
    monkeypatch.setattr(FakeStore, "found", FakeStore.found | {store: ids})
    with pytest.raises(ValueError, match=said): finetune.check_stores(tmp_path, PICTURES, 2)
