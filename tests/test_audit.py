"Each finding of the audit is provoked once on sound pairs, and named right; sound pairs give none."
import io
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, shift

from paintsr_nb.data.audit import audit_pairs, cut_off, low_shift, seams
from paintsr_nb.data.hashes import find_alike, fingerprint
from paintsr_nb.data.store import prepare
from paintsr_nb.picture import read_rgb8, round_half_up, write_picture
from paintsr_nb.resize import crop_to_multiple, enlarge, resize, shrink
from paintsr_nb.samples import samples


def jpeg(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def gamma(pixels, power): return round_half_up(255*(pixels/255)**power)


def moved(high, down, right):
    "HR moved by LR pixels."
    return round_half_up(shift(high.astype(np.float32), (4*down, 4*right, 0), order=3, mode="nearest"))


@pytest.fixture(scope="module")
def sound(): return {f"{n:04}": np.ascontiguousarray(sample.high[700:1340, 600:1368]) for n, sample in enumerate(samples(), 1)}


def write_pairs(folder, highs, lows=None, suffix="png"):
    for name, high in highs.items(): write_picture(folder/f"2400px/image_2400px_{name}.{suffix}", high)
    for name, high in highs.items(): write_picture(folder/f"600px/image_600px_{name}.{suffix}", (lows or {}).get(name, shrink(high)))
    return folder


def told(audit): return sorted((row.level, row.id, row.kind) for row in audit.itertuples())


def test_sound_pairs_give_no_finding_however_they_were_made(sound, tmp_path):
    ways = dict(zip(sound, (shrink, lambda high: resize(high, 160, 192, "lanczos"), lambda high: resize(high, 160, 192, "bilinear"),
                            lambda high: jpeg(shrink(high), 95),
                            lambda high: shrink(round_half_up(gaussian_filter(high.astype(np.float32), (1.5, 1.5, 0)))))))
    audit = audit_pairs(write_pairs(tmp_path, sound, {name: ways[name](high) for name, high in sound.items()}), num_workers=1)
    assert told(audit) == []
    assert len(audit.pictures) == 5 and str(audit) == "5 pictures: 0 errors, 0 warnings"


PAIR_FAULTS = dict(  # kind -> how LR is made, level
    shift=(lambda high: np.roll(shrink(high), 1, axis=0), "error"),
    colour=(lambda high: gamma(shrink(high), 1.5), "error"),
    turned=(lambda high: np.ascontiguousarray(shrink(high)[:, ::-1]), "error"),
    jpeg=(lambda high: jpeg(shrink(high), 50), "warning"),
    foreign=(lambda high: shrink(samples("rocket")[0].high[100:740, 1500:2268]), "error"),
    size=(lambda high: shrink(high)[:-2], "error"),
    blank=(lambda high: np.full((160, 192, 3), 90, np.uint8), "warning"),
)


@pytest.mark.parametrize("kind", PAIR_FAULTS)
def test_a_fault_of_a_pair_is_named(kind, sound, tmp_path):
    spoil, level = PAIR_FAULTS[kind]
    pair = dict(list(sound.items())[:3])
    found = told(audit_pairs(write_pairs(tmp_path, pair, {"0002": spoil(pair["0002"])}), num_workers=1))
    assert (level, "0002", kind) in found and {name for _, name, _ in found} == {"0002"}, found
    assert len(found) == 1 or kind == "blank", "a blank LR is a foreign one too"


def test_a_portrait_turned_by_a_quarter_is_no_wrong_size(sound, tmp_path):
    for turns in (1, 3):
        audit = audit_pairs(write_pairs(tmp_path/str(turns), sound, {"0003": np.rot90(shrink(sound["0003"]), turns)}), num_workers=1)
        assert told(audit) == [("error", "0003", "turned")] and f"{90*turns}°" in audit.detail[0]


def test_swapped_partners_are_told_where_they_belong(sound, tmp_path):
    lows = {"0001": shrink(sound["0004"]), "0004": shrink(sound["0001"])}
    audit = audit_pairs(write_pairs(tmp_path, sound, lows), num_workers=1)
    assert told(audit) == [("error", "0001", "swapped"), ("error", "0004", "swapped")]
    assert ["HR of 0004" in audit.detail[0], "HR of 0001" in audit.detail[1]] == [True, True]


@pytest.mark.parametrize("side, worst, sound_quality", [("low", 88, 93), ("high", 72, 80)])
def test_the_quality_of_a_jpeg_is_read_from_a_png(side, worst, sound_quality, sound, tmp_path):
    pair = dict(list(sound.items())[:3])
    for quality, expected in ((worst, [("warning", "0002", "jpeg")]), (sound_quality, [])):
        highs = {**pair, "0002": jpeg(pair["0002"], quality)} if side == "high" else pair
        lows = {"0002": jpeg(shrink(pair["0002"]), quality)} if side == "low" else None
        audit = audit_pairs(write_pairs(tmp_path/f"{side}{quality}", highs, lows), num_workers=1)
        assert told(audit) == expected
        assert all(f"quality {quality}" in detail for detail in audit.detail)


HIGH_FAULTS = dict(  # kind -> what is done to HR
    soft=lambda high: enlarge(shrink(high)),
    jpeg=lambda high: jpeg(high, 30),
    blank=lambda high: np.full_like(high, 250),
)


@pytest.mark.parametrize("kind", HIGH_FAULTS)
def test_a_fault_of_hr_is_named(kind, sound, tmp_path):
    for name, high in sound.items(): write_picture(tmp_path/f"{name}.png", HIGH_FAULTS[kind](high) if name == "0005" else high)
    assert told(audit_pairs(high=tmp_path, num_workers=1)) == [("warning", "0005", kind)]


def test_files_are_named(sound, tmp_path):
    raw = write_pairs(tmp_path/"raw", sound)
    (raw/"600px/image_600px_0001.png").unlink()
    broken = raw/"2400px/image_2400px_0002.png"
    broken.write_bytes(broken.read_bytes()[:5000])
    write_picture(raw/"600px/image_600px_0003.png", shrink(sound["0003"].astype(np.uint16)*257))
    Image.fromarray(shrink(sound["0004"])).quantize(256).save(raw/"600px/image_600px_0004.png")
    write_picture(raw/"poster.png", sound["0005"])
    write_picture(raw/"Part2/2400px/image_2400px_0005.png", sound["0005"])
    found = told(audit_pairs(raw, num_workers=1))
    assert found == [("error", "0001", "partner"), ("error", "0002", "unreadable"), ("error", "0005", "twice"), ("error", "0005", "twice"),
                     ("error", "poster", "place"), ("warning", "0003", "depth"), ("warning", "0004", "mode")]


def test_copies_within_and_against(sound, tmp_path):
    first, second = sound["0001"], sound["0002"]
    highs = {**sound, "0006": first.copy(), "0007": jpeg(crop_to_multiple(first[8:-8, 8:-8], 4), 85), "0008": np.ascontiguousarray(second[:, ::-1])}
    write_pairs(tmp_path/"raw", highs)
    with zipfile.ZipFile(tmp_path/"test.zip", "w") as archive:
        write_picture(tmp_path/"a.png", shrink(sound["0003"]))
        archive.write(tmp_path/"a.png", "TestSet/0040.png")
    audit = audit_pairs(tmp_path/"raw", against=tmp_path/"test.zip", num_workers=1)
    assert {(name, kind) for _, name, kind in told(audit)} == {("0001", "copy"), ("0001", "part"), ("0006", "part"), ("0002", "copy"), ("0003", "leak")}
    assert told(audit)[0] == ("error", "0003", "leak") and "test.zip/TestSet/0040.png" in audit.detail[0]
    assert any("same pixels" in detail for detail in audit.detail) and any("mirrored" in detail for detail in audit.detail)


def test_a_test_picture_that_is_trained_on_is_a_leak(sound, tmp_path):
    raw = write_pairs(tmp_path, sound)
    write_picture(raw/"TestSet/image_600px_0050.png", shrink(sound["0002"]))
    assert [row[0::2] for row in told(audit_pairs(raw, num_workers=1))] == [("error", "leak")]


@pytest.mark.parametrize("make", ["shrink", "lanczos", "jpeg", "gamma", "noise"])
def test_shifts_are_measured_within_a_twentieth(make, sound):
    random = np.random.default_rng(4)
    for name, high in list(sound.items())[:3]:
        true = random.uniform(-2, 2, 2)
        low = shrink(moved(high, *true))
        if make == "lanczos": low = resize(moved(high, *true), *low.shape[:2], "lanczos")
        if make == "jpeg": low = jpeg(low, 70)
        if make == "gamma": low = gamma(low, 0.8)
        if make == "noise": low = round_half_up(low + random.normal(0, 4, low.shape))
        assert np.abs(np.subtract(low_shift(low, shrink(high)), true)).max() <= 0.05


def test_a_store_and_its_raw_tree_say_the_same(sound, tmp_path):
    raw = write_pairs(tmp_path/"raw", sound, {"0002": np.roll(shrink(sound["0002"]), 2, axis=1)})
    prepare(tmp_path/"store", raw, num_workers=1)
    assert told(audit_pairs(tmp_path/"store", num_workers=1)) == told(audit_pairs(raw, num_workers=2)) == [("error", "0002", "shift")]


def test_the_report_is_one_file_that_trusts_no_name(sound, tmp_path):
    write_picture(tmp_path/"hr/<b>boat.png", np.full((300, 300, 3), 9, np.uint8))
    audit = audit_pairs(high=tmp_path/"hr", num_workers=1)
    page = audit.save_html(tmp_path/"page.html", title="<i>").read_text()
    assert "&lt;b&gt;boat" in page and "<b>" not in page and "<i>" not in page and "data:image/jpeg;base64," in page and "http" not in page
    assert type(audit[audit.level == "error"]).__name__ == "DataFrame" and "boat" in audit._repr_html_()


@pytest.mark.shared
@pytest.mark.parametrize("folder", ["paintings2", "photos"])
def test_real_pictures_raise_no_false_alarm(folder, data, tmp_path):
    for path in sorted((data/folder).glob("*.jpg"))[::6]: (tmp_path/path.name).write_bytes(path.read_bytes())
    assert told(audit_pairs(high=tmp_path, num_workers=1)) == []


@pytest.mark.shared
def test_real_paintings_show_what_was_done_to_them(data):
    for path in sorted((data/"paintings2").glob("*.jpg"))[::16]:
        high = crop_to_multiple(read_rgb8(path), 8)
        assert cut_off(high) > 0.75 >= max(cut_off(enlarge(shrink(high, 2), 2)), cut_off(enlarge(shrink(high))))
        low = shrink(high)
        assert seams(low) < 1 and seams(jpeg(low, 60)) > 3
        true = np.array([0.4, -1.7])
        assert np.abs(np.subtract(low_shift(shrink(moved(high, *true)), low), true)).max() <= 0.05


@pytest.mark.shared
def test_parts_of_real_paintings_are_found(data):
    files = sorted((data/"paintings/train").glob("*.jpg"))[::14]
    whole = {path.stem: read_rgb8(path) for path in files}
    parts = {}
    for name, pixels in whole.items():
        height, width = pixels.shape[:2]
        parts[name] = jpeg(pixels[height//3:, width//3:], 70)
    alike = find_alike({**{("whole", name): fingerprint(pixels) for name, pixels in whole.items()},
                        **{("part", name): fingerprint(pixels) for name, pixels in parts.items()}})
    found = {one[1] for one, other in zip(alike.id, alike.other) if one[1] == other[1]}
    assert found == set(whole), "each part is found in its whole"
    assert all(one[1] == other[1] for one, other in zip(alike.id, alike.other)), "and in no other"


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}', '{"format": 1, "pictures": [{"id": "boat"}]}'])
def test_a_store_with_a_damaged_manifest(text, tmp_path):
    (tmp_path/"manifest.json").write_text(text)
    with pytest.raises(ValueError, match="manifest.json (cannot be read|is not a manifest|is damaged)"): audit_pairs(tmp_path, num_workers=1)
