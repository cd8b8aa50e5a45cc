"Every form of raw tree, every kind of fault, and the split: products of cases that are no reading matter."
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from paintsr_nb.core import PictureError, picture_id
from paintsr_nb.data.pairs import measure_pair, find_pairs, read_pair, split_pairs
from paintsr_nb.data.sources import real_file
from paintsr_nb.picture import to_uint8, write_picture
from paintsr_nb.resize import shrink


def png(height, width, seed=0):
    "The bytes of a PNG of noise."
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def fill(root, tree):
    "Write files given as path -> bytes, or path -> id of a picture whose side the path tells."
    for path, content in tree.items():
        path = root/path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def zipped(tree):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path, content in tree.items(): archive.writestr(path, content)
    return file.getvalue()


LOW, HIGH = png(6, 6), png(24, 24)


def part(prefix, *ids):
    "A training part below `prefix`, named as the challenge names it."
    return {f"{prefix}{px}/image_{px}_{name}.png": content for name in ids for px, content in (("600px", LOW), ("2400px", HIGH))}


def renamed(prefix, low, high, *ids):
    return {f"{prefix}{side}/{name}.png": content for name in ids for side, content in ((low, LOW), (high, HIGH))}


def test_set(prefix, *ids): return {f"{prefix}image_600px_{name}.png": LOW for name in ids}


test_set.__test__ = False
TRAIN, TEST = ["0001", "0002"], ["0010", "0030"]

FORMS = dict(
    both_levels={**part("reto_CV_2020_TrainingSetPart1/TrainingSetPart1/", "0001"), **part("reto_CV_2020_TrainingSetPart2/TrainingSetPart2/", "0002"),
                 **test_set("reto_CV_2020_TestSet/TestSet/", *TEST)},
    inner_level={**part("TrainingSetPart1/", "0001"), **part("TrainingSetPart2/", "0002"), **test_set("TestSet/", *TEST)},
    test_with_600px={**part("TrainingSetPart1/", *TRAIN), **test_set("TestSet/600px/", *TEST)},
    flat={**part("TrainingSet/", *TRAIN), **test_set("TestSet/600px/", *TEST)},
    no_side_folders={**{f"TrainingSet/image_{px}_{name}.png": content for name in TRAIN for px, content in (("600px", LOW), ("2400px", HIGH))},
                     **test_set("TestSet/", *TEST)},
    input_target={**renamed("train_data/", "input", "target", *TRAIN), **{f"TestSet/{name}.png": LOW for name in TEST}},
    lr_hr={**renamed("", "lr", "hr", *TRAIN), **{f"test/lr/{name}.png": LOW for name in TEST}},
    upper_case={**{f"TRAININGSETPART1/{px}/IMAGE_{px}_{name}.PNG": content for name in TRAIN
                   for px, content in (("600PX", LOW), ("2400PX", HIGH))}, **test_set("TESTSET/", *TEST)},
    other_files={**part("TrainingSetPart1/", *TRAIN), **test_set("TestSet/", *TEST), "Thumbs.db": b"x", "read me.txt": b"x",
                 "__MACOSX/TrainingSetPart1/._image_600px_0001.png": b"x", ".hidden/600px/image_600px_0003.png": b"x"},
    zipped_parts={"reto_CV_2020_TrainingSetPart1.zip": zipped(part("TrainingSetPart1/", "0001")),
                  "reto_CV_2020_TrainingSetPart2.ZIP": zipped(part("TrainingSetPart2/", "0002")),
                  "reto_CV_2020_TestSet.zip": zipped(test_set("TestSet/", *TEST))},
    zip_of_bare_pictures={"TrainingSet.zip": zipped(part("", *TRAIN)), "TestSet.zip": zipped(test_set("", *TEST))},
    one_part_zipped={**part("TrainingSetPart1/", "0001"), "Part2.zip": zipped(part("TrainingSetPart2/", "0002")), **test_set("TestSet/", *TEST)},
    windows_names={"Part1.zip": zipped({name.replace("/", "\\"): content for name, content in part("TrainingSetPart1/", *TRAIN).items()}),
                   **test_set("TestSet/", *TEST)},
    zip_beside_its_folder={**part("TrainingSetPart1/", *TRAIN), "TrainingSetPart1.zip": zipped(part("TrainingSetPart1/", *TRAIN)),
                           **test_set("TestSet/", *TEST)},
    zip_beside_folder_of_its_name={**part("Part1/TrainingSetPart1/", *TRAIN), "Part1.zip": zipped(part("TrainingSetPart1/", *TRAIN)),
                                   **test_set("TestSet/", *TEST)},
    nearest_folder_tells={**part("input/TrainingSetPart1/", *TRAIN), **{f"input/hr/TestSet/lr/{name}.png": LOW for name in TEST}},
    half_unpacked_zip={**part("TrainingSetPart1/", "0001"), "TrainingSetPart1.zip": zipped(part("TrainingSetPart1/", *TRAIN)),
                       **test_set("TestSet/", *TEST)},
)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_raw_tree(form, tmp_path):
    pairs, problems = find_pairs(fill(tmp_path/"raw", FORMS[form]), num_workers=1)
    assert problems.values.tolist() == []
    assert list(pairs.id) == [*TRAIN, *TEST]
    assert [bool(high) for high in pairs.high] == [True, True, False, False]
    assert pairs[["width", "height"]].values.tolist() == [[24, 24]]*4


@pytest.mark.parametrize("form", ["both_levels", "flat", "input_target"])
def test_the_whole_tree_as_one_zip(form, tmp_path):
    archive = tmp_path/"everything.Zip"
    archive.write_bytes(zipped(FORMS[form]))
    pairs, problems = find_pairs(archive, num_workers=1)
    assert (len(problems), list(pairs.id)) == (0, [*TRAIN, *TEST])
    low, high = read_pair(pairs.low[0], pairs.high[0])
    assert np.array_equal(low, np.array(Image.open(io.BytesIO(LOW)))) and np.array_equal(high, np.array(Image.open(io.BytesIO(HIGH))))


@pytest.mark.parametrize("kept, ids", [("Training", TRAIN), ("Test", TEST), ("Part2", ["0002"])])
def test_any_part_may_be_absent(kept, ids, tmp_path):
    tree = {path: content for path, content in FORMS["both_levels"].items() if kept in path}
    pairs, problems = find_pairs(fill(tmp_path/"raw", tree), num_workers=1)
    assert (list(pairs.id), len(problems)) == (ids, 0)


def test_a_part_may_be_named_itself(tmp_path):
    fill(tmp_path, FORMS["inner_level"])
    assert list(find_pairs(tmp_path/"TestSet", num_workers=1)[0].id) == TEST
    assert list(find_pairs(tmp_path/"TrainingSetPart1", num_workers=1)[0].id) == ["0001"]


def test_forms_give_the_same_hashes(tmp_path):
    hashes = {tuple(find_pairs(fill(tmp_path/form, FORMS[form]), num_workers=1)[0].hash) for form in ("both_levels", "zipped_parts", "lr_hr")}
    assert len(hashes) == 1


def faults(tmp_path, tree, **kwargs):
    "Name of file -> problem, and the ids that are left."
    pairs, problems = find_pairs(fill(tmp_path/"raw", tree), num_workers=1, **kwargs)
    return {Path(file).name: problem for file, problem in zip(problems.file, problems.problem)}, list(pairs.id)


GOOD = part("TrainingSetPart1/", "0001")


@pytest.mark.parametrize("tree, name, told", [
    ({"TrainingSetPart1/600px/image_600px_0005.png": LOW}, "image_600px_0005.png", "no HR partner"),
    ({"TrainingSetPart1/2400px/image_2400px_0005.png": HIGH}, "image_2400px_0005.png", "no LR partner"),
    ({**part("TrainingSetPart1/", "0005"), "TrainingSetPart1/2400px/image_2400px_0005.png": png(24, 23)}, "image_2400px_0005.png",
     "is 23x24, expected 24x24"),
    ({**part("TrainingSetPart1/", "0005"), "TrainingSetPart1/2400px/image_2400px_0005.png": HIGH[:-60]}, "image_2400px_0005.png", ""),
    ({**part("TrainingSetPart1/", "0005"), "TrainingSetPart1/600px/image_600px_0005.png": b""}, "image_600px_0005.png", ""),
    ({**part("TrainingSetPart1/", "0005"), "TrainingSetPart1/600px/image_600px_0005.png": b"not a picture"}, "image_600px_0005.png", ""),
    ({"TrainingSetPart1/600px/image_2400px_0005.png": HIGH}, "image_2400px_0005.png", "high by its name and low by its folder"),
    ({"poster.png": HIGH}, "poster.png", "lies in none of"),
    ({"Part9.zip": b"PK\x03\x04 cut short"}, "Part9.zip", "not a readable zip"),
    ({"Part9.rar": b"Rar!"}, "Part9.rar", "unpack it"),
    ({"All.zip": zipped({"Part9.zip": zipped(GOOD)})}, "Part9.zip", "archive inside an archive"),
    ({"Evil.zip": zipped({"../600px/image_600px_0005.png": LOW})}, "image_600px_0005.png", "leads out of the archive"),
    ({"Evil.zip": zipped({"/600px/image_600px_0005.png": LOW})}, "image_600px_0005.png", "leads out of the archive"),
    ({"Evil.zip": zipped({"..\\600px\\image_600px_0005.png": LOW})}, "image_600px_0005.png", "leads out of the archive"),
    ({"Evil.zip": zipped({"C:/600px/image_600px_0005.png": LOW})}, "image_600px_0005.png", "leads out of the archive"),
])
def test_every_fault_is_listed_by_name(tree, name, told, tmp_path):
    listed, ids = faults(tmp_path, {**GOOD, **tree})
    assert list(listed) == [name] and told in listed[name], listed
    assert ids == ["0001"]
    assert not str(listed[name]).startswith(str(tmp_path)), "the name is in the other column"


def test_one_id_in_two_parts_names_all_files(tmp_path):
    tree = {**GOOD, **part("TrainingSetPart1/", "0005"), **part("TrainingSetPart2/", "0005"), **test_set("TestSet/", "0001")}
    pairs, problems = find_pairs(fill(tmp_path, tree), num_workers=1)
    assert len(pairs) == 0
    assert sorted(picture_id(file) for file in problems.file) == ["0001"]*2 + ["0005"]*4
    for file, problem in zip(problems.file, problems.problem):
        others = [other for other in problems.file if other != file and Path(other).name == Path(file).name]
        assert others and all(other in problem for other in others)


def test_the_same_bytes_do_not_excuse_a_second_part(tmp_path):
    "Equal files in two parts are one id in two parts; only a zip beside what was unpacked from it is one thing."
    tree = {**GOOD, "Elsewhere.zip": zipped(part("OtherPart/", "0001"))}
    assert len(faults(tmp_path, tree)[0]) == 2


def test_a_zip_whose_unpacked_file_differs(tmp_path):
    "Which of the two is right cannot be known."
    tree = {**GOOD, "TrainingSetPart1.zip": zipped({**GOOD, "TrainingSetPart1/2400px/image_2400px_0001.png": png(24, 24, seed=1) + b" "})}
    listed, _ = faults(tmp_path, tree)
    assert list(listed) == ["image_2400px_0001.png"]


def test_one_stem_with_two_suffixes(tmp_path):
    fill(tmp_path, {"boat.png": HIGH, "boat.bmp": HIGH, "barn.png": HIGH})
    pairs, problems = find_pairs(high=tmp_path, num_workers=1)
    assert (list(pairs.id), sorted(Path(file).name for file in problems.file)) == (["barn"], ["boat.bmp", "boat.png"])


def test_ids_that_differ_by_case_alone(tmp_path):
    fill(tmp_path, {"one/Boat.png": HIGH, "two/boat.png": HIGH})
    pairs, problems = find_pairs(high=[tmp_path/"one", tmp_path/"two"], num_workers=1)
    assert (len(pairs), len(problems)) == (0, 2)


def test_all_faults_come_in_one_report(tmp_path):
    tree = {**GOOD, **part("P/", "0003", "0004"), "P/600px/image_600px_0003.png": b"", "P/2400px/image_2400px_0003.png": b"",
            "P/2400px/image_2400px_0004.png": png(20, 24), "x.png": LOW, "Z.zip": b"PK", "P/600px/image_600px_0006.png": LOW}
    listed, ids = faults(tmp_path, tree)
    assert sorted(listed) == sorted(["image_600px_0003.png", "image_2400px_0003.png", "image_2400px_0004.png", "x.png", "Z.zip",
                                     "image_600px_0006.png"])
    assert ids == ["0001"]


def test_encrypted_and_damaged_members(tmp_path):
    whole = bytearray(zipped(GOOD))
    info = zipfile.ZipFile(io.BytesIO(whole)).infolist()[1]
    damaged = bytearray(whole)
    damaged[info.header_offset + 30 + len(info.filename) + 60] ^= 255        # a byte of the stored picture: its CRC no longer fits
    listed, ids = faults(tmp_path, {"Part1.zip": bytes(damaged)})
    assert (list(listed), ids) == (["image_2400px_0001.png"], []) and "taken out of its zip" in listed["image_2400px_0001.png"]
    start = whole.index(b"PK\x01\x02")
    while start >= 0:                                                        # set the bit "encrypted" of every entry of the directory
        flags = struct.unpack_from("<H", whole, start + 8)[0]
        struct.pack_into("<H", whole, start + 8, flags | 1)
        start = whole.find(b"PK\x01\x02", start + 4)
    listed, ids = faults(tmp_path/"two", {"Part1.zip": bytes(whole)})
    assert len(listed) == 2 and all("with its password" in problem for problem in listed.values())


def test_a_zip_writes_nowhere_and_leaves_nothing(tmp_path):
    archive, scratch = tmp_path/"a.zip", tmp_path/"scratch"
    scratch.mkdir()
    archive.write_bytes(zipped({"lr/sub/0001.png": LOW}))
    with real_file(archive/"lr/sub/0001.png", scratch) as path:
        assert path.parent == scratch and path.read_bytes() == LOW
    assert list(scratch.iterdir()) == []
    with pytest.raises(PictureError, match="no longer holds lr/other.png"):
        with real_file(archive/"lr/other.png", scratch): pass
    assert list(scratch.iterdir()) == [] and sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "scratch"]


def test_a_zip_that_would_unpack_to_too_much(tmp_path, monkeypatch):
    import paintsr_nb.data.sources as room
    monkeypatch.setattr(room, "_too_large", 100)
    listed, _ = faults(tmp_path, {"Part1.zip": zipped(GOOD)})
    assert len(listed) == 2 and all("leave it out" in problem for problem in listed.values())


def test_low_and_high_folders(tmp_path):
    fill(tmp_path, {"lr/my.boat.png": LOW, "hr/my.boat.tif": HIGH, "lr/0801x4.png": LOW, "hr/0801.png": HIGH, "lr/barnx4.png": LOW, "hr/barnx4.png": HIGH})
    pairs, problems = find_pairs(low=tmp_path/"lr", high=tmp_path/"hr", num_workers=1)
    assert (list(pairs.id), len(problems)) == (["0801", "barnx4", "my.boat"], 0)


def test_x4_at_the_end_of_a_name_is_dropped_only_where_that_is_safe(tmp_path):
    fill(tmp_path, {"lr/boatx4.png": LOW, "lr/boat.png": png(6, 6, 1), "hr/boat.png": HIGH, "lr/barnx4.png": LOW, "hr/barnx4.png": HIGH, "hr/barn.png": HIGH})
    pairs, problems = find_pairs(low=tmp_path/"lr", high=tmp_path/"hr", num_workers=1)
    assert [Path(low).name for low in pairs.low] == ["barnx4.png", "boat.png"]
    assert sorted(Path(file).name for file in problems.file) == ["barn.png", "boatx4.png"]


def test_an_accent_in_two_spellings_is_one_id(tmp_path):
    fill(tmp_path, {"lr/caf\u00e9.png": LOW, "hr/cafe\u0301.png": HIGH})
    pairs, problems = find_pairs(low=tmp_path/"lr", high=tmp_path/"hr", num_workers=1)
    assert (list(pairs.id), len(problems)) == (["caf\u00e9"], 0)


@pytest.mark.parametrize("height, width, halved, size", [(24, 24, False, (24, 24)), (27, 25, False, (24, 24)), (16, 23, True, (8, 8)),
                                                         (4, 4, False, (4, 4)), (8, 9, True, (4, 4))])
def test_high_alone(height, width, halved, size, tmp_path):
    fill(tmp_path/"hr", {"boat.png": png(height, width)})
    pairs, problems = find_pairs(high=tmp_path/"hr", halve=["boat"] if halved else None, num_workers=1)
    assert len(problems) == 0
    row = pairs.iloc[0]
    low, high = read_pair(row.low, row.high, row.halved)
    assert (row.height, row.width) == high.shape[:2] == size and row.low == ""
    source = np.array(Image.open(tmp_path/"hr/boat.png"))
    if halved:
        blocks = source[:height//2*2, :width//2*2].reshape(height//2, 2, width//2, 2, 3)
        source = np.floor(blocks.mean((1, 3)) + 0.5).astype(np.uint8)
    assert np.array_equal(high, source[:size[0], :size[1]]), "cut at the bottom and at the right"
    assert np.array_equal(low, shrink(high))
    assert bool(row.note) == (halved or (height, width) != size)


@pytest.mark.parametrize("height, width, halved", [(3, 40, False), (40, 3, False), (7, 40, True)])
def test_too_small_for_any_lr(height, width, halved, tmp_path):
    fill(tmp_path/"hr", {"boat.png": png(height, width), "barn.png": HIGH})
    pairs, problems = find_pairs(high=tmp_path/"hr", halve=["boat"] if halved else None, num_workers=1)
    assert (list(pairs.id), list(problems.file)) == (["barn"], [str(tmp_path/"hr/boat.png")])


def test_several_folders(tmp_path):
    fill(tmp_path, {"one/boat.png": HIGH, "two/barn.png": HIGH, "three/barn.png": HIGH})
    pairs, problems = find_pairs(high=[tmp_path/"one", tmp_path/"two"], num_workers=1)
    assert (list(pairs.id), len(problems)) == (["barn", "boat"], 0)
    pairs, problems = find_pairs(high=[tmp_path/name for name in ("one", "two", "three")], num_workers=1)
    assert (list(pairs.id), len(problems)) == (["boat"], 2)


def test_lists_of_pictures_to_halve(tmp_path):
    fill(tmp_path, {"hr/boat.png": HIGH, "hr/barn.png": HIGH, "list.txt": b"boat.png\n\n",
                    "index.csv": b"file,hint\ntrain/boat.jpg,halve\ntrain/barn.jpg,\ntest/else.jpg,halve\n", "wrong.csv": b"name\nboat\n"})
    for halve in (["boat"], tmp_path/"list.txt", str(tmp_path/"index.csv")):
        pairs, _ = find_pairs(high=tmp_path/"hr", halve=halve, num_workers=1)
        assert pairs.set_index("id").halved.to_dict() == dict(barn=False, boat=True)
    with pytest.raises(ValueError, match="columns name, expected `file` and `hint`"): find_pairs(high=tmp_path/"hr", halve=tmp_path/"wrong.csv")
    with pytest.raises(FileNotFoundError, match="pass a list of ids"): find_pairs(high=tmp_path/"hr", halve=tmp_path/"no.txt")
    with pytest.raises(ValueError, match="beet to be halved"): find_pairs(high=tmp_path/"hr", halve=["beet"])
    with pytest.raises(ValueError, match="no longer fit"): find_pairs(low=tmp_path/"hr", high=tmp_path/"hr", halve=["boat"])


def test_what_is_asked_for_must_make_sense(tmp_path):
    (tmp_path/"empty").mkdir()
    fill(tmp_path, {"note.txt": b"x"})
    with pytest.raises(ValueError, match="raw together with low or high"): find_pairs(tmp_path, low=tmp_path)
    with pytest.raises(ValueError, match="neither raw nor high"): find_pairs()
    with pytest.raises(FileNotFoundError, match="no picture in .*empty"): find_pairs(tmp_path/"empty")
    with pytest.raises(FileNotFoundError, match="no folder"): find_pairs(high=tmp_path/"nowhere")
    _, problems = find_pairs(tmp_path/"note.txt")
    assert "no .zip" in problems.problem[0]


def test_known_files_are_not_decoded_again(tmp_path, monkeypatch):
    import paintsr_nb.data.pairs as room
    fill(tmp_path, GOOD)
    pairs, _ = find_pairs(tmp_path, num_workers=1)
    monkeypatch.setattr(room, "read_picture", lambda *args, **kwargs: pytest.fail("decoded"))
    for row in pairs.drop(columns="group").to_dict("records"):
        asked = {name: row[name] for name in ("id", "low", "high", "halved")}
        again, faults, pixels = measure_pair(asked, [dict(row, hash="another"), row])
        assert (again["hash"], again["print"], faults, pixels) == (row["hash"], row["print"], [], None)
        with pytest.raises(pytest.fail.Exception): measure_pair(dict(asked, halved=True), [row])


def test_a_half_that_cannot_be_read_is_not_taken_for_the_whole(tmp_path):
    "HR alone was there before; now an LR lies beside it, and is broken."
    fill(tmp_path, {"hr/boat.png": HIGH, "lr/boat.png": LOW[:30]})
    alone = dict(id="boat", low="", high=str(tmp_path/"hr/boat.png"), halved=False)
    known, _, _ = measure_pair(alone)
    row = dict(alone, low=str(tmp_path/"lr/boat.png"))
    assert [fault["file"] for fault in measure_pair(row, [known])[1]] == [row["low"]]
    assert [fault["file"] for fault in measure_pair(dict(row, low=str(tmp_path/"lr/gone.png")), [known])[1]] == [str(tmp_path/"lr/gone.png")]


def test_a_file_that_changes_while_it_is_read_is_a_fault(tmp_path, monkeypatch):
    import paintsr_nb.data.pairs as room
    fill(tmp_path, {"boat.png": HIGH})
    read = room.read_picture
    def slow(path, **kwargs):
        pixels = read(path, **kwargs)
        write_picture(path, 255 - pixels[0])
        return pixels
    monkeypatch.setattr(room, "read_picture", slow)
    _, faults, pixels = measure_pair(dict(id="boat", low="", high=str(tmp_path/"boat.png"), halved=False))
    assert pixels is None and [fault["problem"] for fault in faults] == ["changed while it was read: wait until its folder is complete, then run again"]


def test_sixteen_bits_stay(tmp_path):
    "LR and HR each keep the depth of their file, also when HR is halved and LR is made; figures and fingerprints are those of 8 bits."
    deep = np.random.default_rng(0).integers(2**16, size=(24, 24, 3)).astype(np.uint16)
    write_picture(tmp_path/"hr/boat.png", deep)
    write_picture(tmp_path/"lr/boat.png", shrink(to_uint8(deep)))
    low, high = read_pair(tmp_path/"lr/boat.png", tmp_path/"hr/boat.png")
    assert low.dtype == np.uint8 and np.array_equal(high, deep) and high.dtype == np.uint16
    pairs, problems = find_pairs(low=tmp_path/"lr", high=tmp_path/"hr", num_workers=1)
    assert problems.empty and pairs.rmse[0] < 0.6
    low, high = read_pair("", tmp_path/"hr/boat.png", halved=True)
    assert low.dtype == high.dtype == np.uint16 and np.array_equal(low, shrink(high))
    assert np.abs(high - deep.reshape(12, 2, 12, 2, 3).mean((1, 3))).max() <= 0.5


def test_the_split_keeps_groups_together():
    names = [f"{n:04}" for n in range(100)]
    pairs = pd.DataFrame(dict(id=names, high="x", group=[str(n//5) for n in range(100)]))
    split = split_pairs(pairs, valid=0.2)
    assert split.groupby("group").split.nunique().max() == 1
    assert (split.split == "valid").sum() == 20
    grown = pd.concat([pairs, pd.DataFrame(dict(id=["new0", "new1"], high="x", group=["0", "1"]))])
    again = split_pairs(grown, valid=0.2, known=dict(zip(split.id, split.split)))
    assert again.groupby("group").split.nunique().max() == 1, "a picture that joins a group goes where the group is"


@pytest.mark.parametrize("count, n_valid", [(1, 0), (2, 1), (5, 1), (14, 1), (15, 2), (1000, 100)])
def test_the_share_of_the_split(count, n_valid):
    pairs = pd.DataFrame(dict(id=[str(n) for n in range(count)], high="x", group=[str(n) for n in range(count)]))
    assert (split_pairs(pairs).split == "valid").sum() == n_valid
    assert (split_pairs(pairs, valid=0).split == "valid").sum() == 0
    if count == 1000: assert split_pairs(pairs, seed=1).split.tolist() != split_pairs(pairs).split.tolist()


def test_the_split_is_this_one_for_ever():
    "A change here would move pictures between train and valid in every store that is made anew."
    pairs = pd.DataFrame(dict(id=[f"{n:04}" for n in range(50)], high="x", group=[f"{n:04}" for n in range(50)]))
    assert split_pairs(pairs).query("split == 'valid'").id.tolist() == ["0015", "0017", "0026", "0037", "0048"]


@pytest.mark.shared
def test_real_benchmark_pairs(data):
    pairs, problems = find_pairs(low=data/"bench/Set5/LR", high=data/"bench/Set5/HR", num_workers=1)
    assert (len(pairs), len(problems)) == (5, 0)
    made, _ = find_pairs(high=data/"bench/Set5/HR", num_workers=1)
    for given, row in zip(pairs.itertuples(), made.itertuples()):
        assert np.array_equal(read_pair(given.low, given.high)[0], read_pair(row.low, row.high)[0]), given.id


def spread(**counts): return pd.DataFrame([dict(id=f"{name}__{n}", high="x", group=f"{name}__{n}") for name, count in counts.items() for n in range(count)])


def test_small_strata_are_on_both_sides():
    split = split_pairs(spread(monet=80, hals=4, klee=2), valid=0.1)
    sides = split.split.groupby(split.id.str.split("__").str[0]).agg(set)
    assert all(found == {"train", "valid"} for found in sides) and (split.split == "valid").sum() == 9
    few = split_pairs(spread(**{name: 4 for name in "abcdefghij"}), valid=0.1)
    assert few[few.split == "valid"].id.str[0].nunique() == 4, "four pictures, from four painters"


def test_no_stratum_loses_its_last_picture_to_validation():
    split = split_pairs(spread(monet=6, hals=2, klee=2), valid=0.9)
    assert set(split[split.split == "train"].id.str.split("__").str[0]) == {"monet", "hals", "klee"}


def test_the_split_is_decided_by_seed_and_names_alone():
    pairs = spread(monet=30, hals=10)
    once = split_pairs(pairs, seed=3)
    mixed = split_pairs(pairs.sample(frac=1, random_state=1), seed=3).sort_index()
    assert mixed.split.tolist() == once.split.tolist()
    assert split_pairs(pairs, seed=4).split.tolist() != once.split.tolist()


def test_a_group_found_on_both_sides_goes_to_train():
    pairs = spread(monet=6).assign(group=["a", "a", "b", "c", "d", "e"])
    known = dict(zip(pairs.id, ["train", "valid", "train", "train", "train", "train"]))
    split = split_pairs(pairs, known=known)
    assert split.split[:2].tolist() == ["train", "train"] and split.groupby("group").split.nunique().max() == 1


def test_patches_alone_are_refused_with_the_reason(tmp_path):
    fill(tmp_path, {f"boat_s{n:03}.png": png(40, 40, n) for n in range(1, 4)})
    pairs, _ = find_pairs(high=tmp_path, num_workers=1)
    assert set(pairs.group) == {"boat_s001"}
    with pytest.raises(ValueError, match="all 3 pictures show parts of one painting .* split by patch"): split_pairs(pairs)
    assert set(split_pairs(pairs, valid=0).split) == {"train"}


@pytest.mark.shared
def test_parts_of_one_painting_are_one_group(data, tmp_path):
    files = sorted((data/"paintings/train").glob("*.jpg"))[::20]
    for path in files: (tmp_path/path.name).write_bytes(path.read_bytes())
    whole = Image.open(files[0]).convert("RGB")
    w, h = whole.size
    whole.crop((0, 0, w*2//3, h*2//3)).save(tmp_path/"left.jpg", quality=80)
    whole.crop((w//3, h//3, w, h)).resize((w//2, h//2)).save(tmp_path/"right.png")
    pairs, _ = find_pairs(high=tmp_path, num_workers=1)
    groups = pairs.set_index("id").group
    assert groups["left"] == groups["right"] == groups[files[0].stem] and groups.nunique() == len(files)
    split = split_pairs(pairs, valid=0.3).set_index("id").split
    assert split["left"] == split["right"] == split[files[0].stem]
