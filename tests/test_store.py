"A store is whole at every moment: killed at each step, appended to, damaged, written by one process and by several."
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from paintsr_nb.core import ReportError
from paintsr_nb.data import pairs, store as room
from paintsr_nb.data.manifest import JOURNAL
from paintsr_nb.data.pairs import halve_picture
from paintsr_nb.data.store import Store, prepare, remove_pictures
from paintsr_nb.picture import to_uint8, write_picture
from paintsr_nb.resize import shrink


def noise(height, width, seed): return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def paint(folder, height=24, width=24, **seeds):
    "Write pictures named by their keyword, each of its own seed."
    for name, seed in seeds.items(): write_picture(folder/f"{name}.png", noise(height, width, seed))
    return folder


def files(folder):
    "Every file of a folder with its bytes and time of change."
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def content(store):
    "Each picture's split and pixels."
    return {name: (store.table.split[n], store.low(name).tobytes(), store.high(name).tobytes()) for n, name in enumerate(store.ids())}


def raw_tree(root):
    for n, name in enumerate(("0001", "0002", "0003")):
        high = noise(24, 24, n)
        write_picture(root/f"TrainingSetPart1/600px/image_600px_{name}.png", shrink(high))
        write_picture(root/f"TrainingSetPart1/2400px/image_2400px_{name}.png", high)
    write_picture(root/"TestSet/image_600px_0010.png", noise(6, 6, 9))
    return root


def test_a_raw_tree_becomes_a_store(tmp_path):
    store = prepare(tmp_path/"store", raw_tree(tmp_path/"raw"), num_workers=1).store
    assert store.ids() == ["0001", "0002", "0003", "0010"] and store.ids("test") == ["0010"]
    assert (len(store.ids("train")), len(store.ids("valid"))) == (2, 1)
    for n, name in enumerate(("0001", "0002", "0003")):
        assert np.array_equal(store.high(name), noise(24, 24, n)) and np.array_equal(store.low(name), shrink(noise(24, 24, n)))
    assert np.array_equal(store.low("0010"), noise(6, 6, 9))
    assert isinstance(store.low("0010"), np.memmap) and not store.low("0010").flags.writeable
    assert sorted(files(tmp_path/"store")) == ["fingerprints.json", "high/0001.npy", "high/0002.npy", "high/0003.npy",
                                               "low/0001.npy", "low/0002.npy", "low/0003.npy", "low/0010.npy", "manifest.json"]
    manifest = json.loads((tmp_path/"store/manifest.json").read_text())
    assert (manifest["seed"], manifest["valid"], manifest["scale"]) == (42, 0.1, 4)


def test_zips_leave_no_copies_behind(tmp_path):
    import shutil
    raw_tree(tmp_path/"raw")
    shutil.make_archive(str(tmp_path/"all"), "zip", tmp_path/"raw")
    unpacked, packed = (prepare(tmp_path/out, tmp_path/source, num_workers=1).store for out, source in (("one", "raw"), ("two", "all.zip")))
    assert {name: value[0] for name, value in files(tmp_path/"one").items() if name != "manifest.json"} == \
           {name: value[0] for name, value in files(tmp_path/"two").items() if name != "manifest.json"}
    assert list(unpacked.table.hash) == list(packed.table.hash)
    assert not prepare(tmp_path/"one", tmp_path/"all.zip", num_workers=1).written, "the same pictures from another place"


def test_a_second_run_changes_nothing_and_says_so(tmp_path):
    first = prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1, barn=2), num_workers=1)
    before = files(tmp_path/"store")
    second = prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1)
    assert files(tmp_path/"store") == before
    assert (first.written, first.changed, second.written, second.changed) == (["barn", "boat"], True, [], False)
    assert "2 written" in str(first) and "nothing to do" in str(second)


def test_faults_are_told_before_there_is_a_store(tmp_path):
    raw = raw_tree(tmp_path/"raw")
    (raw/"TrainingSetPart1/2400px/image_2400px_0002.png").write_bytes(b"broken")
    (raw/"TrainingSetPart1/600px/image_600px_0003.png").unlink()
    with pytest.raises(ReportError, match="2 problems, the store is as it was") as caught: prepare(tmp_path/"store", raw, num_workers=1)
    with pytest.raises(FileNotFoundError): Store(tmp_path/"store")
    names = ["image_2400px_0002.png", "image_2400px_0003.png"]
    assert sorted(Path(file).name for file in caught.value.report.file) == names
    assert all(name in str(caught.value) for name in names)
    report = prepare(tmp_path/"store", raw, skip_bad=True, num_workers=1)
    assert report.store.ids() == ["0001", "0010"] and sorted(Path(file).name for file in report.skipped.file) == names
    assert sorted(Path(file).name for file in Store(tmp_path/"store").skipped.file) == names, "the manifest keeps the list"
    assert "2 faulty files left out" in str(report)
    before = files(tmp_path/"store")
    assert not prepare(tmp_path/"store", raw, skip_bad=True, num_workers=1).changed and files(tmp_path/"store") == before
    raw_tree(raw)
    assert prepare(tmp_path/"store", raw, num_workers=1).written == ["0002", "0003"], "mended files are added"


def test_faults_leave_an_old_store_as_it_was(tmp_path):
    prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1), num_workers=1)
    before = files(tmp_path/"store")
    (tmp_path/"hr/barn.png").write_bytes(b"broken")
    paint(tmp_path/"hr", boat=3, bridge=2)
    with pytest.raises(ReportError, match="barn.png"): prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1)
    after = files(tmp_path/"store")
    assert {name: after[name] for name in before} == before and Store(tmp_path/"store").ids() == ["boat"]
    (tmp_path/"hr/barn.png").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "read_picture", lambda *args, **kwargs: pytest.fail("decoded again"))
        report = prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1)
    assert report.store.ids() == ["boat", "bridge"] and np.array_equal(report.store.high("boat"), noise(24, 24, 3))
    assert len(report.store.verify(1)) == 0 and len(files(tmp_path/"store")) == 6, "what the run with the fault left is used or removed"


def test_nothing_but_faults(tmp_path):
    (tmp_path/"hr").mkdir()
    (tmp_path/"hr/boat.png").write_bytes(b"broken")
    with pytest.raises(ReportError, match="no picture that can be used"): prepare(tmp_path/"store", high=tmp_path/"hr", skip_bad=True, num_workers=1)
    assert not (tmp_path/"store").exists()


def test_pictures_are_added_and_nobody_changes_sides(tmp_path):
    names = {f"a{n}": n for n in range(20)}
    first = prepare(tmp_path/"store", high=paint(tmp_path/"hr", **names), num_workers=1).store
    times = {name: time for name, (_, time) in files(tmp_path/"store").items()}
    report = prepare(tmp_path/"store", high=paint(tmp_path/"hr", **{f"b{n}": 50 + n for n in range(20)}), num_workers=1)
    second = report.store
    assert (len(second), len(report.written), len(second.ids("valid"))) == (40, 20, 4)
    assert set(first.ids("valid")) <= set(second.ids("valid")) and set(first.ids("train")) <= set(second.ids("train"))
    after = {name: time for name, (_, time) in files(tmp_path/"store").items()}
    assert all(after[name] == time for name, time in times.items() if name.endswith(".npy")), "old pictures are not touched"


def test_seed_and_share_stay_those_of_the_store(tmp_path):
    names = {f"a{n}": n for n in range(20)}
    store = prepare(tmp_path/"store", high=paint(tmp_path/"hr", **names), valid=0.25, seed=7, num_workers=1).store
    again = prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1)
    assert again.store.ids("valid") == store.ids("valid") and len(store.ids("valid")) == 5 and "nothing to do" in str(again)
    other = prepare(tmp_path/"store", high=tmp_path/"hr", seed=8, num_workers=1)
    assert other.store.ids("valid") != store.ids("valid") and not other.written and "new manifest" in str(other)


def test_a_changed_picture_is_written_anew(tmp_path):
    prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1, barn=2), num_workers=1)
    reader = Store(tmp_path/"store")
    held = reader.high("boat")
    for seed in (3, 4, 1):      # the last is the first again
        report = prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=seed), num_workers=1)
        store = report.store
        assert report.written == ["boat"] and np.array_equal(store.high("boat"), noise(24, 24, seed))
        assert len(store.verify(1)) == 0 and len(list((tmp_path/"store/high").iterdir())) == 2
    assert np.array_equal(held, noise(24, 24, 1)), "a map that was open keeps its pixels"


def test_halving_is_recorded_and_undone(tmp_path):
    paint(tmp_path/"hr", height=26, width=37, boat=1, barn=2)
    store = prepare(tmp_path/"store", high=tmp_path/"hr", halve=["boat"], num_workers=1).store
    expected = halve_picture(noise(26, 37, 1))[:12, :16]
    assert np.array_equal(store.high("boat"), expected) and np.array_equal(store.low("boat"), shrink(expected))
    row = Store(tmp_path/"store").table.set_index("id").loc["boat"]
    assert (row.halved, row.note) == (True, "cut from 37x26 to 32x24, halved by area")
    report = prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1)
    assert report.written == ["boat"] and np.array_equal(report.store.high("boat"), noise(26, 37, 1)[:24, :36])


def test_absent_pictures_are_kept_unless_pruned(tmp_path):
    prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1, barn=2), num_workers=1)
    report = prepare(tmp_path/"store", high=paint(tmp_path/"more", bridge=3), num_workers=1)
    assert (report.store.ids(), report.kept, report.written) == (["barn", "boat", "bridge"], ["barn", "boat"], ["bridge"])
    assert "2 not in this input and kept" in str(report)
    (tmp_path/"hr/barn.png").write_bytes(b"broken since")
    report = prepare(tmp_path/"store", high=tmp_path/"hr", skip_bad=True, prune=True, num_workers=1)
    assert (report.store.ids(), report.kept, report.written, report.removed) == (["barn", "boat"], ["barn"], [], ["bridge"]), "a file that broke meanwhile is no reason to drop its picture"
    assert sorted(path.name for path in (tmp_path/"store/low").iterdir()) == ["barn.npy", "boat.npy"]


def test_equal_files_under_two_names(tmp_path):
    store = prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1, copy=1, tree=2), num_workers=1).store
    rows = store.table.set_index("id")
    assert rows.hash["boat"] == rows.hash["copy"]
    assert rows.group.tolist() == ["boat", "boat", "tree"] and rows.split["boat"] == rows.split["copy"], "one painting, one side"
    assert not prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1).changed


def test_a_copy_that_comes_later_joins_its_painting(tmp_path):
    paint(tmp_path/"hr", height=96, width=96, **{f"p{n}": n for n in range(6)})
    store = prepare(tmp_path/"store", high=tmp_path/"hr", valid=0.34, num_workers=1).store
    valid = store.ids("valid")[0]
    write_picture(tmp_path/"more/copy.png", noise(96, 96, int(valid[1:]))[:, ::-1])
    rows = prepare(tmp_path/"store", high=tmp_path/"more", num_workers=1).store.table.set_index("id")
    assert (rows.group["copy"], rows.split["copy"]) == (rows.group[valid], "valid")


def test_a_store_of_an_earlier_version_goes_on(tmp_path):
    "Its manifest has no RMSE, and there are no fingerprints; they are made again, also of pictures whose files are out of reach."
    paint(tmp_path/"hr", height=96, width=96, boat=1, barn=2, tree=3)
    before = prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1).store
    manifest = json.loads((tmp_path/"store/manifest.json").read_text())
    for row in manifest["pictures"]: del row["rmse"]
    (tmp_path/"store/manifest.json").write_text(json.dumps(manifest))
    (tmp_path/"store/fingerprints.json").unlink()
    old = Store(tmp_path/"store")
    assert content(old) == content(before) and old.verify(num_workers=1).empty
    write_picture(tmp_path/"more/copy.png", noise(96, 96, 1))
    report = prepare(tmp_path/"store", high=tmp_path/"more", num_workers=1)
    assert report.written == ["copy"] and report.store.table.set_index("id").group["copy"] == "boat"
    assert prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1).written == []


def test_what_made_the_low_pictures_is_said(tmp_path):
    raw = raw_tree(tmp_path/"raw")
    report = prepare(tmp_path/"store", raw, num_workers=1)
    assert str(report).splitlines()[1].startswith("LR: given, all 3 as HR shrunk gives") and report.store.manifest["degradation"] == "given"
    write_picture(raw/"TrainingSetPart1/600px/image_600px_0002.png", noise(6, 6, 77))
    report = prepare(tmp_path/"store", raw, num_workers=1)
    assert "1 of 3 pairs are not what HR shrunk gives: 0002 (" in str(report) and "see paintsr_audit" in str(report)
    made = prepare(tmp_path/"made", high=paint(tmp_path/"hr", boat=1, barn=2), num_workers=1)
    assert "LR: made here, bicubic" in str(made) and made.store.manifest["degradation"].startswith("bicubic")


def test_a_changed_file_is_noticed(tmp_path):
    store = prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1, barn=2), num_workers=1).store
    assert store.verify(num_workers=1).empty
    pixels = np.load(tmp_path/"store/high/boat.npy")
    pixels[3, 4, 1] ^= 1
    np.save(tmp_path/"store/high/boat.npy", pixels)
    assert [Path(file).name for file in store.verify(num_workers=1).file] == ["boat.npy"]
    paint(tmp_path/"hr", boat=9)
    assert prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1).written == ["boat"]


def test_a_test_picture_gets_its_hr_later(tmp_path):
    raw = raw_tree(tmp_path/"raw")
    prepare(tmp_path/"store", raw, num_workers=1)
    write_picture(raw/"TestSet/2400px/image_2400px_0010.png", noise(24, 24, 5))
    report = prepare(tmp_path/"store", raw, num_workers=1)
    assert report.store.ids("test") == [] and np.array_equal(report.store.high("0010"), noise(24, 24, 5)) and report.written == ["0010"]


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_store_is_mended(damage, tmp_path):
    prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1, barn=2), num_workers=1)
    file = tmp_path/"store/high/boat.npy"
    if damage == "missing": file.unlink()
    else: file.write_bytes(file.read_bytes()[:-1])
    store = Store(tmp_path/"store")
    assert list(store.verify(1).file) == [str(file)]
    with pytest.raises((FileNotFoundError, ValueError), match="prepare again"): store.high("boat")
    paint(tmp_path/"more", bridge=3)
    with pytest.raises(ReportError, match="store is damaged"): prepare(tmp_path/"store", high=tmp_path/"more", num_workers=1)
    report = prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1)
    mended = report.store
    assert report.written == ["boat"] and len(mended.verify(1)) == 0 and np.array_equal(mended.high("boat"), noise(24, 24, 1))
    assert "nothing to do" in str(prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1))


def test_errors_of_a_reader(tmp_path):
    store = prepare(tmp_path/"store", raw_tree(tmp_path/"raw"), num_workers=1).store
    with pytest.raises(ValueError, match="no picture '9999' .* take one of"): store.low("9999")
    with pytest.raises(ValueError, match="'0010' .* test picture without HR"): store.high("0010")
    with pytest.raises(ValueError, match="split='Valid', expected 'train'"): store.ids("Valid")
    np.save(tmp_path/"store/low/0001.npy", np.zeros((6, 5, 3), np.uint8))
    with pytest.raises(ValueError, match=r"holds \(6, 5, 3\) uint8, expected \(6, 6, 3\)"): store.low("0001")
    np.save(tmp_path/"store/low/0001.npy", np.zeros((6, 6, 3), np.float32))
    with pytest.raises(ValueError, match="float32, expected"): store.low("0001")
    with pytest.raises(FileNotFoundError, match="make one with `prepare`"): Store(tmp_path)
    for text, told in (("{", "cannot be read"), ("[]", "not a manifest"), ('{"format": 99}', "update paintsr_nb")):
        (tmp_path/"store/manifest.json").write_text(text)
        with pytest.raises(ValueError, match=told): Store(tmp_path/"store")
        with pytest.raises(ValueError, match=told): prepare(tmp_path/"store", tmp_path/"raw", num_workers=1)


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    paint(tmp_path/"hr", boat=1)
    with pytest.raises(ValueError, match="name a new or empty folder"): prepare(tmp_path/"hr", high=tmp_path/"hr", num_workers=1)
    with pytest.raises(ValueError, match="is a file"): prepare(tmp_path/"hr/boat.png", high=tmp_path/"hr", num_workers=1)
    assert [path.name for path in (tmp_path/"hr").iterdir()] == ["boat.png"]
    (tmp_path/"empty").mkdir()
    assert len(prepare(tmp_path/"empty", high=tmp_path/"hr", num_workers=1).store) == 1
    mine = tmp_path/"empty/low/mine.npy"
    mine.write_bytes(b"a file of the user's own")
    prepare(tmp_path/"empty", high=paint(tmp_path/"hr", boat=2), num_workers=1)
    assert mine.exists(), "only files that a manifest or journal names are removed"


def test_a_wrong_share_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "run_parallel", lambda *args: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="valid=10, expected"): prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1), valid=10)


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: type("Usage", (), dict(free=1000)))
    with pytest.raises(OSError, match="choose another disk"): prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1), num_workers=1)


def test_each_file_is_decoded_once(tmp_path, monkeypatch):
    raw_tree(tmp_path/"raw")
    read, decoded = pairs.read_picture, []
    monkeypatch.setattr(pairs, "read_picture", lambda path, **kwargs: decoded.append(Path(path).name) or read(path, **kwargs))
    prepare(tmp_path/"store", tmp_path/"raw", num_workers=1)
    assert sorted(decoded) == sorted(path.name for path in (tmp_path/"raw").rglob("*.png")) and len(decoded) == 7
    decoded.clear()
    prepare(tmp_path/"store", tmp_path/"raw", num_workers=1)
    assert not decoded


def deep(seed): return np.random.default_rng(seed).integers(2**16, size=(24, 24, 3)).astype(np.uint16)


def test_sixteen_bits_stay_sixteen(tmp_path):
    write_picture(tmp_path/"hr/boat.png", deep(1))
    paint(tmp_path/"hr", barn=2)
    store = prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1).store
    assert np.array_equal(store.high("boat"), deep(1)) and store.high("boat").dtype == np.uint16
    assert np.array_equal(store.low("boat"), shrink(deep(1))) and store.low("boat").dtype == np.uint16
    assert store.high("barn").dtype == store.low("barn").dtype == np.uint8
    assert store.table[["low_bits", "high_bits"]].values.tolist() == [[8, 8], [16, 16]]
    assert len(store.verify(1)) == 0 and not prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1).changed
    (tmp_path/"store/fingerprints.json").unlink()      # is made again from the store, where the file is not in the input
    assert prepare(tmp_path/"store", high=paint(tmp_path/"more", tree=3), num_workers=1).written == ["tree"]
    np.save(tmp_path/"store/high/boat.npy", noise(24, 24, 1))
    with pytest.raises(ValueError, match="uint8, expected .* uint16"): Store(tmp_path/"store").high("boat")
    assert prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1).written == ["boat"]


def test_sixteen_bits_lie_beside_eight(tmp_path):
    "LR of 8 bits and HR of 16: each keeps its own, and crops for training are those of the picture in 8 bits."
    from paintsr_nb.data.degrade import DEGRADATIONS
    from paintsr_nb.data.patches import sr_dls
    write_picture(tmp_path/"hr/boat.png", deep(1))
    write_picture(tmp_path/"lr/boat.png", shrink(to_uint8(deep(1))))
    write_picture(tmp_path/"hr8/boat.png", to_uint8(deep(1)))
    store = prepare(tmp_path/"store", low=tmp_path/"lr", high=tmp_path/"hr", valid=0, num_workers=1).store
    plain = prepare(tmp_path/"plain", high=tmp_path/"hr8", valid=0, num_workers=1).store
    assert (store.low("boat").dtype, store.high("boat").dtype) == (np.uint8, np.uint16)
    for degradation in (None, DEGRADATIONS["bicubic"], DEGRADATIONS["scan"]):
        with pytest.warns(UserWarning, match="no validation picture"):
            one, two = (sr_dls(each, low_size=4, bs=2, n_iters=2, device="cpu", degradation=degradation) for each in (store, plain))
        for side in ("train", "valid"):
            for a, b in zip(getattr(one, side), getattr(two, side)): assert all(torch.equal(x, y) for x, y in zip(a, b))


def test_sixteen_bits_are_previewed_and_named(tmp_path):
    from paintsr_nb.data.fitted import name_pairs
    from paintsr_nb.picture import read_rgb8
    from paintsr_nb.samples import samples
    from paintsr_nb.training.learner import PreviewCallback
    from tiny import fit, tiny_learner
    high = np.ascontiguousarray(samples("dahlia")[0].high[600:1112, 600:1112])
    shown = []
    for depth, step in ((8, np.uint8(1)), (16, np.uint16(257))):
        folder = tmp_path/str(depth)
        write_picture(folder/"hr/boat.png", high*step)
        write_picture(folder/"lr/boat.png", shrink(high)*step)
        store = prepare(folder/"store", low=folder/"lr", high=folder/"hr", valid=0, num_workers=1).store
        assert name_pairs(store)["boat"].name == "bicubic" and store.high("boat").dtype == f"uint{depth}"
        with pytest.warns(UserWarning, match="no validation picture"): fit(tiny_learner(store, PreviewCallback(folder/"preview", size=12), n_iters=1))
        shown.append(read_rgb8(folder/"preview/epoch_0000.png"))
    assert np.array_equal(shown[0], shown[1])


@pytest.mark.parametrize("damage, told", [
    (lambda m: m.pop("pictures"), "`pictures` is missing"),
    (lambda m: m.update(pictures={}), "`pictures` is {}"),
    (lambda m: m.update(seed="42"), "`seed` is '42'"),
    (lambda m: m.pop("valid"), "`valid` is missing"),
    (lambda m: m.pop("skipped"), "`skipped` is missing"),
    (lambda m: m["skipped"].append("boat"), "entry 2 is 'boat'"),
    (lambda m: m["pictures"].append(None), "entry 2 is None"),
    (lambda m: m["pictures"][1].pop("id"), "`id` of picture 1 is missing"),
    (lambda m: m["pictures"][1].pop("high_file"), "`high_file` of picture 'boat' is missing"),
    (lambda m: m["pictures"][0].update(width="24"), "`width` of picture 'barn' is '24'"),
    (lambda m: m["pictures"][0].update(width=0), "`width` of picture 'barn' is 0"),
    (lambda m: m["pictures"][0].update(height=True), "`height` of picture 'barn' is True"),
    (lambda m: m["pictures"][0].update(split="training"), "`split` of picture 'barn' is 'training'"),
    (lambda m: m["pictures"][0].update(split=["train"]), "`split` of picture 'barn' is"),
    (lambda m: m["pictures"][0].update(high_bits=12), "`high_bits` of picture 'barn' is 12"),
    (lambda m: m["pictures"][0].update(rmse="low"), "`rmse` of picture 'barn' is 'low'"),
    (lambda m: m["pictures"][0].update(high_file="../../hr/boat.png"), "`high_file` of picture 'barn' is '../../hr/boat.png'"),
    (lambda m: m["pictures"].append(m["pictures"][0]), "picture 'barn' is there twice"),
])
def test_a_damaged_manifest_says_so(damage, told, tmp_path):
    "In one sentence, with the file's name and what to do, whoever opens the store."
    prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1, barn=2), num_workers=1)
    file = tmp_path/"store/manifest.json"
    manifest = json.loads(file.read_text())
    damage(manifest)
    file.write_text(json.dumps(manifest))
    before = files(tmp_path)
    for action in (Store, lambda out: prepare(out, high=tmp_path/"hr", num_workers=1), lambda out: remove_pictures(out, ["boat"])):
        with pytest.raises(ValueError) as caught: action(tmp_path/"store")
        assert told in str(caught.value) and str(caught.value).startswith(f"{file} is damaged") and "prepare again" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert files(tmp_path) == before


def test_verify_names_each_fault(tmp_path):
    store = prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1, barn=2, bridge=3, tree=4), num_workers=1).store
    high = tmp_path/"store/high"
    (high/"boat.npy").unlink()
    (high/"barn.npy").write_bytes((high/"barn.npy").read_bytes()[:-5])
    pixels = np.load(high/"tree.npy")
    pixels[5, 5, 1] ^= 1
    np.save(high/"tree.npy", pixels)
    found = store.verify(num_workers=1).set_index("id")
    assert list(found.index) == ["barn", "boat", "tree"] and [Path(file).name for file in found.file] == ["barn.npy", "boat.npy", "tree.npy"]
    assert "has 1,851 bytes, expected 1,856" in found.problem["barn"] and "is missing" in found.problem["boat"] and "not as it was written" in found.problem["tree"]
    (high/"tree.npy").unlink()
    report = prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1)
    assert report.written == ["barn", "boat", "tree"] and report.store.verify(num_workers=1).empty, "as the sentences say"


def test_pictures_are_taken_out(tmp_path):
    names = {f"a{n}": n for n in range(8)}
    first = prepare(tmp_path/"store", high=paint(tmp_path/"hr", **names), num_workers=1).store
    before = files(tmp_path/"store")
    report = remove_pictures(tmp_path/"store", ["a2", "a5"])
    left = [name for name in names if name not in ("a2", "a5")]
    assert (report.removed, report.store.ids(), report.written) == (["a2", "a5"], left, []) and "2 removed" in str(report)
    assert report.store.verify(1).empty and set(before) - set(files(tmp_path/"store")) == {f"{side}/{name}.npy" for side in ("low", "high") for name in ("a2", "a5")}
    assert report.store.table.split.tolist() == first.table[first.table.id.isin(left)].split.tolist()
    after = files(tmp_path/"store")
    assert all(after[name] == before[name] for name in after if name.endswith(".npy"))
    assert len(json.loads((tmp_path/"store/fingerprints.json").read_text())) == 6
    for ids, told in ((["a2", "a1"], "no picture a2 in"), (left, "delete the folder instead")):
        with pytest.raises(ValueError, match=told): remove_pictures(tmp_path/"store", ids)
    assert files(tmp_path/"store") == after
    with pytest.raises(FileNotFoundError, match="make one with `prepare`"): remove_pictures(tmp_path/"nowhere", ["a1"])
    assert not (tmp_path/"nowhere").exists()
    assert remove_pictures(tmp_path/"store", "a0").removed == ["a0"]
    assert prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1).written == ["a0", "a2", "a5"], "their files are in the input still"


def test_a_full_disk_leaves_the_store_and_what_is_finished(tmp_path, monkeypatch):
    "The disk is full at the third file: the error says so, the old store is whole, and the next run goes on from there."
    old = content(prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1), num_workers=1).store)
    paint(tmp_path/"more", barn=2, bridge=3)
    save, saved = np.save, []
    def full(file, pixels):
        saved.append(pixels)
        if len(saved) == 3:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        save(file, pixels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room.np, "save", full)
        with pytest.raises(OSError, match="the disk of .* is full: make room and run again"): prepare(tmp_path/"store", high=tmp_path/"more", num_workers=1)
    assert content(Store(tmp_path/"store")) == old and not list((tmp_path/"store").rglob("*.tmp"))
    read, decoded = pairs.read_picture, []
    monkeypatch.setattr(pairs, "read_picture", lambda path, **kwargs: decoded.append(Path(path).name) or read(path, **kwargs))
    report = prepare(tmp_path/"store", high=tmp_path/"more", num_workers=1)
    assert decoded == ["bridge.png"] and report.store.ids() == ["barn", "boat", "bridge"] and report.store.verify(1).empty
    assert len(files(tmp_path/"store")) == 8


def test_two_runs_at_once(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1), num_workers=1)
    handle = os.open(tmp_path/"store", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)        # the weakest lock of another process
    with pytest.raises(RuntimeError, match="another run is writing"): prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1)
    os.close(handle)
    assert not prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1).changed


def test_several_processes_equal_one(tmp_path, capfd):
    names = {f"a{n}": n for n in range(9)}
    paint(tmp_path/"hr", **names)
    one, two = (prepare(tmp_path/f"store{n}", high=tmp_path/"hr", num_workers=n).store for n in (1, 2))
    assert {name: data for name, (data, _) in files(tmp_path/"store1").items()} == {name: data for name, (data, _) in files(tmp_path/"store2").items()}
    assert len(two.verify(2)) == 0
    told = capfd.readouterr().err
    assert "preparing" in told and "verifying" in told, "bars go to the error stream"


def killed_at(step, work):
    "Run `work` in a forked process that is killed before its n-th change of the disk; was it killed?"
    pid = os.fork()
    if pid == 0:
        try:
            left = [step]
            def count():
                left[0] -= 1
                if left[0] < 0: os.kill(os.getpid(), signal.SIGKILL)
            def counted(function):
                def call(*args, **kwargs):
                    count()
                    return function(*args, **kwargs)
                return call
            for name in ("replace", "fsync", "unlink", "mkdir"): setattr(os, name, counted(getattr(os, name)))
            np.save = counted(np.save)
            sys.stderr = open(os.devnull, "w")
            work()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc(file=sys.__stderr__)
            os._exit(3)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status): return True
    assert os.WEXITSTATUS(status) == 0
    return False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("begin", ["nothing", "a store"])
def test_killed_before_every_single_step(begin, tmp_path):
    "However far a run came, the store is the old one or the new one, and the next run makes it the new one and leaves no trace."
    import shutil
    paint(tmp_path/"old", boat=1, barn=2, bridge=3)
    paint(tmp_path/"new", boat=5, barn=2, bird=4)       # changed, the same, pruned, added
    old = None
    if begin == "a store": old = content(prepare(tmp_path/"begin", high=tmp_path/"old", num_workers=1).store)
    reference = tmp_path/"reference"
    if old: shutil.copytree(tmp_path/"begin", reference)
    new = content(prepare(reference, high=tmp_path/"new", prune=True, num_workers=1).store)
    step, seen = 0, set()
    while True:
        out = tmp_path/f"store{step}"
        if old: shutil.copytree(tmp_path/"begin", out)
        killed = killed_at(step, lambda: prepare(out, high=tmp_path/"new", prune=True, num_workers=1))
        if (out/"manifest.json").is_file():
            store = Store(out)
            assert len(store.verify(1)) == 0
            assert content(store) in (old, new)
            seen.add("new" if content(store) == new else "old")
        else:
            assert old is None and killed
            seen.add("absent")
        after = prepare(out, high=tmp_path/"new", prune=True, num_workers=1).store
        assert content(after) == new and len(after.verify(1)) == 0
        named = {name for row in after.manifest["pictures"] for name in (row["low_file"], row["high_file"])}
        assert set(files(out)) == {"manifest.json", "fingerprints.json", *named}
        if not killed: break
        step += 1
    assert step > 12 and seen == {"old" if old else "absent", "new"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_removal_killed_before_every_single_step(tmp_path):
    import shutil
    old = content(prepare(tmp_path/"begin", high=paint(tmp_path/"hr", boat=1, barn=2, bridge=3), num_workers=1).store)
    new = {name: value for name, value in old.items() if name != "barn"}
    step, seen = 0, set()
    while True:
        out = tmp_path/f"store{step}"
        shutil.copytree(tmp_path/"begin", out)
        killed = killed_at(step, lambda: remove_pictures(out, ["barn"]))
        store = Store(out)
        assert len(store.verify(1)) == 0
        seen.add(("old", "new")[[old, new].index(content(store))])
        assert content(remove_pictures(out, ["barn"] if "barn" in store.ids() else []).store) == new
        assert set(files(out)) == {"manifest.json", "fingerprints.json", *(f"{side}/{name}.npy" for side in ("low", "high") for name in new)}
        if not killed: break
        step += 1
    assert step > 4 and seen == {"old", "new"}


def stopped_after(n_pairs, action):
    "Run `action` until so many pairs are written, then interrupt it; the ids that were written."
    write, written = room._write_pair, []
    def counted(pixels, out, name):
        if len(written) == n_pairs: raise KeyboardInterrupt
        written.append(name)
        return write(pixels, out, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_write_pair", counted)
        with pytest.raises(KeyboardInterrupt): action()
    return written


def test_a_killed_run_is_not_begun_again(tmp_path):
    "Pictures that were finished are not decoded a second time, nor when the kill tore the journal's last line."
    paint(tmp_path/"hr", boat=1, barn=2, bridge=3)
    written = stopped_after(2, lambda: prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1))
    with open(tmp_path/"store"/JOURNAL, "a") as journal: journal.write('{"id": "torn')
    report = prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1)
    assert (written, report.written, len(report.store)) == (["barn", "boat"], ["bridge"], 3)
    assert len(report.store.verify(1)) == 0 and not (tmp_path/"store"/JOURNAL).exists()


def test_a_finished_picture_of_a_killed_run_is_no_other(tmp_path):
    "Three killed runs, each with another boat, then the first boat again: no file is taken for what it is not."
    for seed in (1, 3, 4):
        paint(tmp_path/"hr", boat=seed, **{f"z{n}": n for n in range(3)})
        stopped_after(1, lambda: prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1))
        with open(tmp_path/"store"/JOURNAL, "a") as journal: journal.write('{"id": "torn')     # swallows nothing that follows
    paint(tmp_path/"hr", boat=1)
    store = prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1).store
    assert np.array_equal(store.high("boat"), noise(24, 24, 1)) and len(store.verify(1)) == 0 and len(files(tmp_path/"store")) == 10


SCRIPT = """
import sys
from paintsr_nb.data.store import prepare
if __name__ == "__main__": print(prepare(sys.argv[1], high=sys.argv[2], num_workers=2))
"""


KILLS_ITSELF = """
import multiprocessing, os, signal, sys
from paintsr_nb.data import store

def note_and_die(out, *entries, note=store.note_in_journal, noted=[]):
    noted += [entry for entry in entries if "low_file" in entry]
    if len(noted) == 3:
        print(*[process.pid for process in multiprocessing.active_children()], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    note(out, *entries)

if __name__ == "__main__":
    store.note_in_journal = note_and_die
    store.prepare(sys.argv[1], high=sys.argv[2], num_workers=2)
"""


def is_running(pid):
    "Is there such a process, other than one that has ended and waits to be noticed?"
    try: return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[-1].split()[0] != "Z"
    except OSError: return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_killed_with_its_workers(tmp_path):
    "The main process is killed while two workers write: they end too, no store appears, and the next run completes it."
    paint(tmp_path/"hr", height=200, width=200, **{f"a{n:02}": n for n in range(12)})
    (tmp_path/"script.py").write_text(KILLS_ITSELF)
    command = [sys.executable, tmp_path/"script.py", tmp_path/"store", tmp_path/"hr"]
    with open(tmp_path/"out.txt", "w") as out: code = subprocess.run(command, stdout=out, stderr=subprocess.DEVNULL).returncode
    assert code == -signal.SIGKILL
    workers = (tmp_path/"out.txt").read_text().split()
    assert len(workers) == 2
    for _ in range(3000):
        if not any(is_running(pid) for pid in workers): break
        time.sleep(0.02)
    else: pytest.fail("workers outlive the process that was killed")
    with pytest.raises(FileNotFoundError): Store(tmp_path/"store")
    report = prepare(tmp_path/"store", high=tmp_path/"hr", num_workers=1)
    assert len(report.store) == 12 and len(report.store.verify(1)) == 0 and len(report.written) == 10, "two pictures were noted as done"
    assert len(files(tmp_path/"store")) == 26


def test_a_script_without_its_guard_is_told(tmp_path):
    paint(tmp_path/"hr", **{f"a{n}": n for n in range(8)})
    (tmp_path/"script.py").write_text(SCRIPT.replace('if __name__ == "__main__": ', ""))
    done = subprocess.run([sys.executable, tmp_path/"script.py", tmp_path/"store", tmp_path/"hr"], capture_output=True, text=True)
    assert done.returncode == 1 and 'below `if __name__ == "__main__":`' in done.stderr


@pytest.mark.shared
def test_bench_lr_are_reproduced(data, tmp_path):
    "The LR that a store makes from HR alone are those of the benchmark, bit for bit."
    given = prepare(tmp_path/"given", low=data/"bench/Set5/LR", high=data/"bench/Set5/HR", num_workers=1).store
    made = prepare(tmp_path/"made", high=data/"bench/Set5/HR", num_workers=1).store
    assert given.ids() == made.ids() and len(given) == 5
    for name in given.ids(): assert np.array_equal(given.low(name), made.low(name)) and np.array_equal(given.high(name), made.high(name))


def test_sizes_come_from_the_table(tmp_path, monkeypatch):
    store = prepare(tmp_path/"store", raw_tree(tmp_path/"raw"), num_workers=1).store
    monkeypatch.setattr(Store, "_open", lambda *args: pytest.fail("opened"))
    assert (store.shape("0001"), store.shape("0001", "high"), store.shape("0010")) == ((6, 6, 3), (24, 24, 3), (6, 6, 3))
    with pytest.raises(ValueError, match="test picture without HR"): store.shape("0010", "high")


def opened_by(store, monkeypatch):
    "The files that a store opens from now on."
    opened, really = [], Store._open
    monkeypatch.setattr(Store, "_open", lambda self, name, side: opened.append((name, side)) or really(self, name, side))
    return opened


def test_a_map_is_opened_once(tmp_path, monkeypatch):
    store = prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1, barn=2), num_workers=1).store
    opened = opened_by(store, monkeypatch)
    for _ in range(3):
        for name in store.ids(): assert np.array_equal(store.high(name), noise(24, 24, dict(boat=1, barn=2)[name]))
    assert opened == [("barn", "high"), ("boat", "high")]


def test_maps_leave_file_handles_for_others(tmp_path, monkeypatch):
    "A store of more pictures than the process may open files: the oldest maps are closed."
    resource = pytest.importorskip("resource")
    store = prepare(tmp_path/"store", high=paint(tmp_path/"hr", **{f"a{n:02}": n for n in range(40)}), num_workers=1).store
    granted = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, granted[1]))
    handles = Path("/proc/self/fd")
    before = len(list(handles.iterdir())) if handles.exists() else 0
    for _ in range(2):
        for n, name in enumerate(store.ids()): assert np.array_equal(store.high(name), noise(24, 24, n)) and store.low(name).shape == (6, 6, 3)
    assert len(store._maps) == 16
    if handles.exists(): assert len(list(handles.iterdir())) - before <= 16


def test_a_store_travels_to_a_worker_without_its_maps(tmp_path):
    import pickle
    store = prepare(tmp_path/"store", high=paint(tmp_path/"hr", height=400, width=400, boat=1), num_workers=1).store
    light = len(pickle.dumps(store))
    store.high("boat")
    assert len(pickle.dumps(store)) == light < 10_000
    assert np.array_equal(pickle.loads(pickle.dumps(store)).high("boat"), noise(400, 400, 1)) and len(store._maps) == 1


def test_a_manifest_is_a_table(tmp_path):
    "Other tools read the manifest with one line."
    prepare(tmp_path/"store", high=paint(tmp_path/"hr", boat=1), num_workers=1)
    table = pd.DataFrame(json.loads((tmp_path/"store/manifest.json").read_text())["pictures"])
    assert {"id", "low", "high", "width", "height", "split", "group", "hash", "halved", "note"} <= set(table.columns)
