"Scoring folders: matching, the challenge's rule for what is missing, broken input, and the JSON form."
import json, math

import numpy as np
import pytest
from PIL import Image

from paintsr_nb.challenge.score import BASELINES, match_pictures, score_folders
from paintsr_nb.core import ReportError
from paintsr_nb.metrics import PROTOCOLS, psnr, ssim
from paintsr_nb.picture import write_picture
from paintsr_nb.resize import enlarge, shrink


def picture(seed, height=64, width=48):
    "Smooth shapes with sharp edges; no two seeds alike."
    rng = np.random.default_rng(seed)
    coarse = enlarge(rng.integers(0, 256, (height//8, width//8, 3), dtype=np.uint8), 8)
    coarse[height//4:height//2, width//4:] = rng.integers(0, 256, 3, dtype=np.uint8)
    return coarse


@pytest.fixture
def folders(tmp_path):
    "Three challenge pictures with LR, HR and a bicubic SR."
    for number in (10, 30, 711):
        high = picture(number)
        low = shrink(high)
        write_picture(tmp_path/"high"/f"image_2400px_{number:04}.png", high)
        write_picture(tmp_path/"low"/f"image_600px_{number:04}.png", low)
        write_picture(tmp_path/"sr"/f"candidate_{number:04}.png", enlarge(low))
    return tmp_path


def score(folders, **options):
    options = dict(low_dir=folders/"low", num_workers=2) | options
    return score_folders(folders/"sr", folders/"high", **options)


def test_numbers_are_those_of_the_metrics(folders):
    scores = score(folders)
    assert list(scores.table.id) == ["0010", "0030", "0711"] and not len(scores.problems)
    for row, number in zip(scores.table.itertuples(), (10, 30, 711)):
        high = picture(number)
        sr = enlarge(shrink(high))
        assert (row.psnr, row.ssim) == (psnr(sr, high), ssim(sr, high))
        assert row.ssim_paper_y == ssim(sr, high, "paper_y")
        for name, function in BASELINES.items():
            assert getattr(row, f"{name}_ssim") == ssim(function(shrink(high)), high)
            assert getattr(row, f"{name}_psnr") == psnr(function(shrink(high)), high)
    assert scores.means.ssim["these pictures"] == scores.means.ssim["bicubic"]
    assert list(scores.means.index) == ["these pictures", "bicubic", "lanczos", "back-projected"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_line_with_a_score_names_a_protocol(folders, protocol):
    scores = score(folders, protocol=protocol)
    assert scores.table.ssim[0] == ssim(enlarge(shrink(picture(10))), picture(10), protocol)
    lines = str(scores).splitlines()
    assert lines[0] == f"3 of 3 pictures scored by {protocol}"
    others = next(line for line in lines if line.startswith("SSIM by the other protocols"))
    assert all((f"({name})" in others) == (name != protocol) for name in PROTOCOLS)
    assert "PSNR dB" in lines[2] and lines[3].startswith("these pictures")   # the table right below the line that names the protocol
    assert all(any(name in line for name in PROTOCOLS) for line in lines[8:] if "0." in line)


def test_given_low_and_shrunk_high_are_told_apart(folders):
    write_picture(folders/"low"/"image_600px_0010.png", np.full((16, 12, 3), 128, np.uint8))   # not the shrunk HR
    given, made = score(folders), score(folders, low_dir=None)
    assert given.table.bicubic_ssim[0] < made.table.bicubic_ssim[0] and given.table.ssim[0] == made.table.ssim[0]
    assert str(folders/"low") in str(given) and "shrunk by our bicubic" in str(made)


def test_baselines_can_be_left_out(folders):
    scores = score(folders, baselines=False)
    assert list(scores.means.index) == ["these pictures"] and "baselines" not in str(scores)
    assert not any(column.startswith("bicubic") for column in scores.table)


@pytest.mark.parametrize("sr, high", [
    ("0010.png", "image_2400px_0010.png"), ("candidate_0010.png", "0010.png"), ("IMAGE_600PX_0010.png", "0010.png"),
    ("boat_x4.png", "boat.png"), ("my.boat_x4.png", "my.boat.jpg"), ("bateau à voile_x4.png", "bateau à voile.png"),
    ("sub/boat.png", "boat.png")])
def test_names_that_belong_together(tmp_path, sr, high):
    for folder, name in (("sr", sr), ("high", high)): write_picture(tmp_path/folder/name, picture(1))
    pairs, problems = match_pictures(tmp_path/"sr", tmp_path/"high")
    assert not len(problems) and pairs.sr[0].endswith(sr) and pairs.high[0].endswith(high)


def test_a_name_in_two_subfolders_is_told_apart_by_the_folder(tmp_path):
    for place in ("a", "b"):
        write_picture(tmp_path/"high"/place/"boat.png", picture(1))
        write_picture(tmp_path/"sr"/place/"boat_x4.png", picture(1))
    pairs, problems = match_pictures(tmp_path/"sr", tmp_path/"high")
    assert list(pairs.id) == ["a/boat", "b/boat"] and not len(problems)
    assert [path.split("/")[-2] for path in pairs.sr] == ["a", "b"]


def test_missing_and_unusable_pictures_count_zero_and_are_named(folders):
    full = score(folders).table.ssim
    (folders/"sr"/"candidate_0030.png").unlink()
    write_picture(folders/"sr"/"candidate_0711.png", picture(711)[:-1])
    (folders/"sr"/"notes.txt").write_text("not a picture")
    write_picture(folders/"sr"/"candidate_0050.png", picture(50))
    scores = score(folders)
    assert list(scores.table.ssim) == [full[0], 0, 0]
    assert scores.means.ssim["these pictures"] == pytest.approx(full[0]/3)
    assert scores.means.psnr["these pictures"] == scores.table.psnr[0]
    assert scores.means.ssim["bicubic"] == pytest.approx(full.mean())   # the rivals are judged on all three
    report = str(scores)
    assert "1 of 3 pictures scored" in report and "2 of the 3 could not be scored and count 0" in report
    for name, words in (("image_2400px_0030.png", "no upscaled picture"), ("candidate_0711.png", "is 48x63, expected 48x64"),
                        ("candidate_0050.png", "no true picture")):
        assert any(row.file.endswith(name) and words in row.problem for row in scores.problems.itertuples()), name
        assert f"{name}: " in report
    assert len(scores.problems) == 3 and len(scores.worst()) == 1
    assert f"{scores.table.ssim_paper_y[0]/3:.4f} (paper_y)" in report   # zeros count there as well


@pytest.mark.parametrize("which", ["sr", "high", "low"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_broken_file_is_named_and_the_rest_is_scored(folders, which, damage):
    path = next((folders/which).glob("*_0030.png"))
    path.write_bytes(dict(cut=path.read_bytes()[:-40], text=b"hello", empty=b"")[damage])
    scores = score(folders)
    assert [row.file for row in scores.problems.itertuples()] == [str(path)]
    row = scores.table.iloc[1]
    if which == "sr": assert row.ssim == 0 and row.bicubic_ssim > 0
    if which == "high":
        assert math.isnan(row.ssim) and scores.means.ssim["these pictures"] == scores.table.ssim[[0, 2]].mean()
        assert f"{scores.table.ssim_paper_y[[0, 2]].mean():.4f} (paper_y)" in str(scores)
    if which == "low": assert row.ssim > 0 and math.isnan(row.bicubic_ssim)
    assert scores.table.ssim[[0, 2]].min() > 0


def test_low_of_another_scale_or_missing_costs_only_the_baselines(folders):
    write_picture(folders/"low"/"image_600px_0010.png", picture(10)[::2, ::2])
    (folders/"low"/"image_600px_0030.png").unlink()
    scores = score(folders)
    assert scores.table.ssim.min() > 0 and list(scores.table.lanczos_ssim.notna()) == [False, False, True]
    problems = dict(zip(scores.problems.file, scores.problems.problem))
    assert "is 24x32, a quarter of the true picture is 12x16" in problems[str(folders/"low"/"image_600px_0010.png")]
    assert "no LR picture" in problems[str(folders/"high"/"image_2400px_0030.png")]


def test_sizes_that_cannot_be_shrunk_or_are_smaller_than_the_window(tmp_path):
    for name, size in (("odd", (63, 47)), ("tiny", (10, 12)), ("small", (15, 15))):
        for folder in ("sr", "high"): write_picture(tmp_path/folder/f"{name}.png", picture(1)[:size[0], :size[1]])
    table = score_folders(tmp_path/"sr", tmp_path/"high").table.set_index("id")
    assert table.ssim["odd"] == 1 and math.isnan(table.bicubic_ssim["odd"])
    assert math.isnan(table.ssim["tiny"]) and "too small for wang_rgb" in table.problem["tiny"]
    assert table.ssim["small"] == 1 and math.isnan(table.ssim_paper_y["small"])


def test_two_pictures_for_one_id(folders):
    write_picture(folders/"sr"/"0010.png", picture(10))
    scores = score(folders)
    assert scores.table.ssim[0] == 0
    assert sorted(file.split("/")[-1] for file in scores.problems.file) == ["0010.png", "candidate_0010.png"]
    write_picture(folders/"high"/"0030.png", picture(30))
    with pytest.raises(ReportError, match="share an id") as caught: score(folders)
    assert sorted(file.split("/")[-1] for file in caught.value.report.file) == ["0030.png", "image_2400px_0030.png"]


def test_wrong_folders_are_a_sentence(folders, tmp_path):
    (tmp_path/"nothing").mkdir()
    with pytest.raises(FileNotFoundError, match="holds the upscaled pictures"): score_folders(tmp_path/"nothing", folders/"high")
    with pytest.raises(FileNotFoundError, match="holds the LR pictures"): score(folders, low_dir=tmp_path/"nothing")
    with pytest.raises(FileNotFoundError, match="no folder"): score_folders(tmp_path/"nowhere", folders/"high")
    write_picture(tmp_path/"others"/"boat.png", picture(1))
    with pytest.raises(ValueError, match="give the files the same stems"): score_folders(tmp_path/"others", folders/"high")
    with pytest.raises(ValueError, match="choose one of wang_rgb, skimage_default, paper_y"): score(folders, protocol="ms_ssim")


def test_every_mode_of_the_same_picture_scores_the_same(folders):
    pixels = Image.open(folders/"sr"/"candidate_0010.png")
    before = score(folders).table.ssim[0]
    pixels.convert("RGBA").save(folders/"sr"/"candidate_0010.png")
    assert score(folders).table.ssim[0] == before


def test_json_is_plain_and_has_no_nan(folders):
    (folders/"sr"/"candidate_0030.png").unlink()
    write_picture(folders/"sr"/"candidate_0010.png", picture(10))   # perfect: PSNR is infinite
    scores = score(folders)
    text = json.dumps(scores.as_dict(), allow_nan=False)
    report = json.loads(text)
    assert report["protocol"] == "wang_rgb" and (report["n_pictures"], report["n_scored"]) == (3, 2)
    assert report["ssim"] == scores.means.ssim["these pictures"] and report["baselines"]["lanczos"]["psnr"] > 0
    assert [row["psnr"] is None for row in report["pictures"]] == [True, True, False]
    assert report["problems"][0]["file"].endswith("image_2400px_0030.png")


def test_the_listing_has_a_line_for_each_picture(folders):
    (folders/"sr"/"candidate_0030.png").unlink()
    scores = score(folders)
    first, head, *rows = scores.listing().splitlines()
    assert first == "by wang_rgb" and head.split() == ["picture", "PSNR", "dB", "SSIM", "bicubic", "lanczos", "back-projected"]
    assert [row.split()[0] for row in rows] == ["0010", "0030", "0711"]
    assert rows[0].split()[1:3] == [f"{scores.table.psnr[0]:.2f}", f"{scores.table.ssim[0]:.4f}"]
    assert rows[1].split()[1:3] == ["-", "0.0000"] and rows[1].endswith("missing")
    assert "bicubic" not in score(folders, baselines=False).listing()
