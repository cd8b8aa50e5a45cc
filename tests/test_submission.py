"Submissions: bytes that repeat, a check that misses nothing, and no archive at all where something is wrong."
import hashlib, os, resource, shutil, struct, zlib
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import pytest
from PIL import Image

from paintsr_nb.challenge.submission import check_submission, expected_pictures, submit
from paintsr_nb.core import PictureError, ReportError
from paintsr_nb.picture import read_rgb8, write_picture
from paintsr_nb.resize import enlarge

NAMES = ["candidate_0010.png", "candidate_0030.png", "candidate_0711.png"]


def noise(seed, side=12):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def low():
    "A test set of three pictures of 12x12, one of them in a subfolder."
    for number in (10, 711): write_picture(f"low/image_600px_{number:04}.png", noise(number))
    write_picture("low/600px/image_600px_0030.png", noise(30))
    return Path("low")


@pytest.fixture
def members(low):
    "Name → bytes of a valid submission."
    submit(low, "good.zip", enlarge, side=48)
    with ZipFile("good.zip") as archive: return {name: archive.read(name) for name in archive.namelist()}


def problems_of(members, low=Path("low"), side=48, name="test.zip"):
    "What the check says of an archive with these members: a list of (file, problem)."
    with ZipFile(name, "w") as archive:
        for member, content in members.items() if isinstance(members, dict) else members: archive.writestr(member, content)
    report = check_submission(name, low, side)
    return list(zip(report.file, report.problem))


def encoded(pixels, **options):
    Image.fromarray(pixels).save("encoded.png", **options)
    return Path("encoded.png").read_bytes()


# ---- making

def test_a_submission_is_flat_complete_and_holds_the_upscaled_pixels(low):
    report = submit(low, "good.zip", enlarge, side=48)
    assert list(report.result) == NAMES and set(report.status) == {"made"}
    with ZipFile("good.zip") as archive:
        assert archive.namelist() == NAMES
        archive.extractall("out")
    for name, number in zip(NAMES, (10, 30, 711)): assert (read_rgb8(Path("out")/name) == enlarge(noise(number))).all()
    assert sorted(os.listdir()) == ["good.zip", "low", "out"]   # nothing is left over
    assert not len(check_submission("good.zip", low, side=48))


def test_the_bytes_depend_on_the_pictures_alone(low, monkeypatch):
    submit(low, "a.zip", enlarge, side=48)
    shutil.copytree(low, "elsewhere/copy")
    for path in Path("elsewhere").rglob("*.png"): os.utime(path, (1, 1))
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    before = os.umask(0o077)
    try: submit("elsewhere/copy", "b.zip", enlarge, side=48)
    finally: os.umask(before)
    assert Path("a.zip").read_bytes() == Path("b.zip").read_bytes()
    with ZipFile("a.zip") as archive:
        notes = {(entry.date_time, entry.create_system, entry.external_attr, entry.flag_bits) for entry in archive.infolist()}
    assert notes == {((1980, 1, 1, 0, 0, 0), 3, 0o644 << 16, 0)}
    submit(low, "c.zip", lambda low: enlarge(low, kernel="nearest"), side=48)
    assert Path("c.zip").read_bytes() != Path("a.zip").read_bytes()


def test_a_stopped_run_goes_on_from_its_work_folder(low):
    calls = []
    def tired(pixels):
        calls.append(pixels)
        if len(calls) == 2: raise KeyboardInterrupt
        return enlarge(pixels)
    with pytest.raises(KeyboardInterrupt): submit(low, "a.zip", tired, side=48, work="work")
    assert not Path("a.zip").exists()
    report = submit(low, "a.zip", tired, side=48, work="work")
    assert list(report.status) == ["kept", "made", "made"] and len(calls) == 4
    submit(low, "b.zip", enlarge, side=48)
    assert Path("a.zip").read_bytes() == Path("b.zip").read_bytes()


def test_a_wrong_picture_in_the_work_folder_never_gets_into_an_archive(low):
    write_picture("work/candidate_0010.png", noise(1, 44))
    with pytest.raises(ReportError, match="candidate_0010.png: is 44x44, expected 48x48"):
        submit(low, "a.zip", enlarge, side=48, work="work")
    assert not Path("a.zip").exists() and not list(Path().glob(".*"))


def test_an_existing_archive_is_overwritten_only_on_demand(low):
    Path("a.zip").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="overwrite=True"): submit(low, "a.zip", enlarge, side=48)
    assert Path("a.zip").read_bytes() == b"precious"
    with pytest.raises(ZeroDivisionError): submit(low, "a.zip", lambda pixels: 1/0, side=48, overwrite=True)
    assert Path("a.zip").read_bytes() == b"precious" and not list(Path().glob(".*"))
    submit(low, "a.zip", enlarge, side=48, overwrite=True)
    assert not len(check_submission("a.zip", low, side=48))


@pytest.mark.parametrize("out", ["note.txt/a.zip", "folder.zip", "/proc/none/a.zip"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(low, out):
    def never(pixels): pytest.fail("upscaled before the check")
    Path("note.txt").touch()
    Path("folder.zip").mkdir()
    with pytest.raises(OSError, match="cannot be written|is a folder"): submit(low, out, never, side=48, overwrite=True)


@pytest.mark.parametrize("upscale, found", [
    (lambda low: low, r"uint8 \(12, 12, 3\)"), (lambda low: enlarge(low)/255, "float64"), (lambda low: None, "NoneType"),
    (lambda low: enlarge(low)[..., :1], r"\(48, 48, 1\)"), (lambda low: enlarge(low).tolist(), "list")])
def test_an_upscaler_that_returns_something_else(low, upscale, found):
    with pytest.raises(ValueError, match=f"{found}.* of low/.*expected an array uint8"): submit(low, "a.zip", upscale, side=48)
    assert not Path("a.zip").exists() and not list(Path().glob(".*"))


def test_test_sets_that_cannot_be_submitted_are_told_before_any_work(low):
    def never(pixels): pytest.fail("upscaled before the check")
    write_picture(low/"boat.png", noise(1))
    write_picture(low/"0010.png", noise(1))
    write_picture(low/"image_600px_0050.png", noise(1, 13))
    (low/"image_600px_0070.png").write_bytes(b"no picture")
    with pytest.raises(ReportError) as caught: submit(low, "a.zip", never, side=48)
    report = dict(zip((Path(file).name for file in caught.value.report.file), caught.value.report.problem))
    assert set(report) - {"0010.png", "image_600px_0010.png"} == {"boat.png", "image_600px_0050.png", "image_600px_0070.png"}
    assert "no id of four digits" in report["boat.png"] and "is 13x13, expected 12x12" in report["image_600px_0050.png"]
    assert any("keep one" in problem for problem in report.values()) and len(report) == 4
    with pytest.raises(ValueError, match="end in .zip"): submit(low, "a.tar", never, side=48)
    Path("empty").mkdir()
    with pytest.raises(FileNotFoundError, match="LR pictures of the test set"): submit("empty", "a.zip", never)


def test_the_real_challenge_wants_600_by_600(low):
    with pytest.raises(ReportError, match="is 12x12, expected 600x600"): expected_pictures(low)
    write_picture("real/image_600px_0010.png", np.zeros((600, 600, 3), np.uint8))
    assert submit("real", "a.zip", enlarge).result[0] == "candidate_0010.png"
    assert not len(check_submission("a.zip", "real"))


# ---- checking

def test_a_good_archive_has_no_problem_however_it_was_zipped(members):
    assert problems_of(members) == []
    with ZipFile("deflated.ZIP", "w", ZIP_DEFLATED) as archive:
        for name in reversed(NAMES): archive.writestr(name, members[name])
    assert not len(check_submission("deflated.ZIP", "low", side=48))


def test_missing_and_extra(members):
    del members["candidate_0010.png"]
    assert problems_of(members) == [("test.zip", "holds 2 files, the test set has 3: a wrong number scores 0 as a whole"),
                                    ("candidate_0010.png", "is missing: it scores 0")]
    members["candidate_0011.png"] = members["candidate_0030.png"]
    assert problems_of(members) == [("candidate_0011.png", "is no picture of the test set"),
                                    ("candidate_0010.png", "is missing: it scores 0")]


def test_an_empty_archive(members):
    assert problems_of({})[0] == ("test.zip", "holds 0 files, the test set has 3: a wrong number scores 0 as a whole")
    assert len(problems_of({})) == 4


@pytest.mark.parametrize("folder", ["submission/", "a/b/", "./", "/", "folder\\"])
def test_a_folder_inside(members, folder):
    found = problems_of({folder + name: content for name, content in members.items()})
    assert len(found) == 3 and all("root of the archive" in problem for _, problem in found)


def test_an_entry_for_the_folder_itself(members):
    assert problems_of({"submission/": b"", **members}) == [
        ("submission/", "is a folder: the archive must be flat, or everything scores 0.0")]


@pytest.mark.parametrize("hidden", ["__MACOSX/._candidate_0010.png", ".DS_Store", "._candidate_0010.png"])
def test_hidden_files_of_a_mac(members, hidden):
    found = problems_of({**members, hidden: b"finder"})
    assert found[0][1].startswith("holds 4 files") and found[1][0] == hidden and "hidden file" in found[1][1] and len(found) == 2


@pytest.mark.parametrize("name", [
    "image_600px_0010.png", "0010.png", "image_600px_0010_x4.png", "Candidate_0010.png", "candidate_0010.PNG", "candidate_10.png",
    "candidate_0010.png ", "notes.txt"])
def test_wrong_names(members, name):
    members[name] = members.pop("candidate_0010.png")
    found = problems_of(members)
    assert found[0][0] == name and "has the wrong name" in found[0][1]
    assert found[1:] == [("candidate_0010.png", "is missing: it scores 0")]
    if name[-8:-4].isdigit() and "_x4" not in name: assert "expected candidate_0010.png" in found[0][1]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice(members):
    found = problems_of([*members.items(), ("candidate_0010.png", members["candidate_0010.png"])])
    assert ("candidate_0010.png", "is in the archive 2 times") in found and found[0][1].startswith("holds 4 files")


@pytest.mark.parametrize("shape", [(47, 48), (48, 49), (12, 12), (1, 1)])
def test_wrong_size(members, shape):
    members["candidate_0030.png"] = encoded(np.zeros((*shape, 3), np.uint8))
    assert problems_of(members) == [("candidate_0030.png", f"is {shape[1]}x{shape[0]}, expected 48x48: it scores 0")]


@pytest.mark.parametrize("pixels, words", [
    (np.zeros((48, 48), np.uint8), "8-bit grey,"), (np.zeros((48, 48, 4), np.uint8), "8-bit RGBA"),
    (np.zeros((48, 48, 2), np.uint8), "8-bit grey with alpha"),
    (np.zeros((48, 48), np.uint16), "16-bit grey"), (np.zeros((48, 48), bool), "1-bit grey")])
def test_wrong_kind_of_picture(members, pixels, words):
    members["candidate_0030.png"] = encoded(pixels)
    found = problems_of(members)
    assert len(found) == 1 and words in found[0][1] and "expected 8-bit RGB" in found[0][1]


def test_sixteen_bit_colour(members):
    def chunk(kind, content): return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    header, rows = struct.pack(">IIBBBBB", 48, 48, 16, 2, 0, 0, 0), zlib.compress((b"\0" + bytes(48*6))*48)
    members["candidate_0030.png"] = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert problems_of(members) == [("candidate_0030.png", "is 16-bit RGB, expected 8-bit RGB")]


def test_a_palette(members):
    Image.fromarray(noise(1, 48)).quantize(16).save("palette.png")
    members["candidate_0030.png"] = Path("palette.png").read_bytes()
    assert "palette, expected 8-bit RGB" in problems_of(members)[0][1]


def test_what_is_called_png_and_is_none(members):
    Image.fromarray(noise(1, 48)).save("a.jpg")
    for content in (Path("a.jpg").read_bytes(), b"", b"\x89PNG\r\n\x1a\n", b"hello"):
        assert problems_of({**members, "candidate_0030.png": content}) == [("candidate_0030.png", "is no PNG file")]


def spoil(data, how):
    "A PNG that is cut off, has a bit of its pixels turned, or lacks its end."
    middle = len(data)//2
    if how == "cut": return data[:middle]
    if how == "headless": return data[:33]
    if how == "turned": return data[:middle] + bytes([data[middle] ^ 0x55]) + data[middle+1:]


@pytest.mark.parametrize("how", ["cut", "headless", "turned"])
def test_pictures_that_cannot_be_decoded(members, how):
    members["candidate_0030.png"] = spoil(members["candidate_0030.png"], how)
    found = problems_of(members)
    assert len(found) == 1 and found[0][0] == "candidate_0030.png" and "cannot be decoded" in found[0][1]
    assert "/tmp" not in found[0][1]   # no name that the user has never seen


def test_several_faults_of_one_picture_are_all_listed(members):
    members["out/0030.png"] = encoded(np.zeros((40, 40), np.uint8))
    del members["candidate_0030.png"]
    words = ["root of the archive", "wrong name", "is 40x40", "8-bit grey", "is missing"]
    assert [word in problem for word, (_, problem) in zip(words, problems_of(members))] == [True]*5


def test_a_damaged_member_is_named_and_the_others_are_checked(members):
    problems_of(members)
    whole = bytearray(Path("test.zip").read_bytes())
    whole[whole.index(b"IDAT") + 20] ^= 0xFF   # stored, so the first picture's bytes stand as they are
    Path("test.zip").write_bytes(whole)
    report = check_submission("test.zip", "low", side=48)
    assert list(report.file) == ["candidate_0010.png"] and "Bad CRC-32" in report.problem[0]


def test_an_encrypted_member(members):
    problems_of(members)
    whole = bytearray(Path("test.zip").read_bytes())
    for start in (b"PK\x03\x04", b"PK\x01\x02"):
        place = whole.index(start) + (6 if start == b"PK\x03\x04" else 8)
        whole[place] |= 1
    Path("test.zip").write_bytes(whole)
    report = check_submission("test.zip", "low", side=48)
    assert list(report.file) == ["candidate_0010.png"] and "without a password" in report.problem[0]


def test_a_member_that_unpacks_to_far_too_much(members):
    with ZipFile("bomb.zip", "w", ZIP_DEFLATED) as archive:
        for name in NAMES: archive.writestr(name, bytes(30_000_000) if name == NAMES[0] else members[name])
    assert os.path.getsize("bomb.zip") < 100_000
    report = check_submission("bomb.zip", "low", side=48)
    assert list(report.file) == [NAMES[0]] and "unpacks to 30 MB" in report.problem[0]


def test_a_member_that_says_it_is_small(members):
    "A zip's directory may say any size; what is really packed is 150 times as much."
    with ZipFile("liar.zip", "w", ZIP_DEFLATED) as archive:
        for name in NAMES: archive.writestr(name, bytes(150_000_000) if name == NAMES[0] else members[name])
    whole, told = bytearray(Path("liar.zip").read_bytes()), struct.pack("<I", 150_000_000)
    for _ in range(whole.count(told)): whole[whole.index(told):whole.index(told) + 4] = struct.pack("<I", 1_000_000)
    Path("liar.zip").write_bytes(whole)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = check_submission("liar.zip", "low", side=48)
    assert list(report.file) == [NAMES[0]] and "cannot be unpacked" in report.problem[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000   # kB


def test_a_member_that_is_a_link(members):
    entry = ZipInfo("candidate_0030.png")
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    del members["candidate_0030.png"]
    found = problems_of([*members.items(), (entry, b"candidate_0010.png")])
    assert found == [("candidate_0030.png", "is a symbolic link: put the picture itself into the archive")]


def test_a_header_that_promises_a_giant(members):
    data = bytearray(members["candidate_0030.png"])
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    members["candidate_0030.png"] = bytes(data)
    found = problems_of(members)
    assert found[0] == ("candidate_0030.png", "is 60000x60000, expected 48x48: it scores 0") and "cannot be decoded" in found[1][1]


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 and then nothing"])
def test_what_is_no_zip(low, content):
    Path("a.zip").write_bytes(content)
    report = check_submission("a.zip", low, side=48)
    assert list(report.file) == ["a.zip"] and "no zip archive" in report.problem[0]


def test_a_zip_that_was_cut_off_in_transfer(members):
    whole = Path("good.zip").read_bytes()
    for length in range(1, len(whole), len(whole)//20):
        Path("cut.zip").write_bytes(whole[:length])
        assert list(check_submission("cut.zip", "low", side=48).file) == ["cut.zip"]


def test_no_damage_to_any_byte_makes_the_check_fall_over(members):
    "One byte changed anywhere: a report, never an exception, and the pixels are the right ones where the report is empty."
    whole = Path("good.zip").read_bytes()
    for place in range(0, len(whole), max(1, len(whole)//150)):
        Path("bad.zip").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place+1:])
        if len(check_submission("bad.zip", "low", side=48)): continue
        with ZipFile("bad.zip") as archive: assert {name: archive.read(name) for name in archive.namelist()} == members, place


def test_other_names_and_absent_files(members):
    shutil.copy("good.zip", "good.tar")
    assert list(check_submission("good.tar", "low", side=48).problem) == ["must be named .zip"]
    with pytest.raises(FileNotFoundError, match="zip that you want to send"): check_submission("nowhere.zip", "low", side=48)


# ---- real pictures

@pytest.mark.shared
def test_real_pictures_of_the_challenge_become_a_submission(data):
    with pytest.raises(ReportError) as caught: expected_pictures(data/"lr600")
    assert sorted(Path(file).name for file in caught.value.report.file) == sorted(path.name for path in (data/"lr600").glob("artquiz_*"))
    real = sorted((data/"lr600").glob("candidate_*.png"))[:2]
    Path("real").mkdir()
    for path in real: shutil.copy(path, "real")
    report = submit("real", "a.zip", enlarge)
    assert list(report.result) == [path.name for path in real]
    assert not len(check_submission("a.zip", "real"))
