"""What the pages about rivals and about `explore` leave out: folders with faults, figures of the bootstrap, messages of a browser, the command."""
import base64, io, json, re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import bootstrap

from paintsr_nb import commands
from paintsr_nb.challenge.rivals import _escaped, _square_means, find_difference, score_rivals
from paintsr_nb.intervals import paired_bootstrap
from paintsr_nb.core import random_at
from paintsr_nb.metrics import psnr, ssim
from paintsr_nb.picture import read_rgb8, write_picture
from paintsr_nb.resize import back_project, enlarge, shrink
from paintsr_nb.viewing.explore import Explorer, RunExplorer, _cut, explore, read_previews
from test_commands import here

IDS = ["0010", "boat", "tree", "zinnia"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    "high, low, and two methods: `good` and `poor`; `poor` lacks one picture and has one of the wrong size."
    root = tmp_path_factory.mktemp("folders")
    for number, id in enumerate(IDS):
        high = enlarge(enlarge(random_at(number).integers(0, 256, (8, 9, 3)).astype(np.uint8)))
        low = shrink(high)
        write_picture(root/"high"/f"{id}.png", high)
        write_picture(root/"low"/f"{id}.png", low)
        write_picture(root/"good"/f"{id}_x4.png", back_project(low, enlarge(low)))
        if id == "boat": continue
        write_picture(root/"poor"/f"{id}_x4.png", enlarge(low)[:-4] if id == "tree" else enlarge(low, kernel="nearest"))
    return root


@pytest.fixture(scope="module")
def rivals(folders): return score_rivals([folders/"good", folders/"poor"], folders/"high", folders/"low")


# ---------------------------------------------------------------- who beats whom

@pytest.mark.parametrize("n", [5, 40])
def test_the_interval_is_that_of_scipy(n):
    a, b = random_at(1).normal(0.6, 0.1, n), random_at(2).normal(0.58, 0.1, n)
    ours = paired_bootstrap(a, b, n_draws=20_000)
    theirs = bootstrap((a - b,), np.mean, n_resamples=20_000, method="percentile", rng=3).confidence_interval
    width = ours.most - ours.least
    assert ours.least == pytest.approx(theirs.low, abs=0.03*width) and ours.most == pytest.approx(theirs.high, abs=0.03*width)
    assert ours.difference == pytest.approx((a - b).mean()) and ours.n == n


def test_the_draws_are_paired():
    "Differences without spread have an interval without width, however much the pictures differ."
    hardness = random_at(4).normal(0, 100, 30)
    verdict = paired_bootstrap(hardness + 1, hardness)
    assert (verdict.least, verdict.most) == (pytest.approx(1), pytest.approx(1)) and verdict.winner == "A" and verdict.share == 1


def test_the_same_seed_gives_the_same_verdict():
    a, b = random_at(1).normal(size=(2, 12))
    assert paired_bootstrap(a, b) == paired_bootstrap(a, b) != paired_bootstrap(a, b, seed=1)
    assert paired_bootstrap(a, b, n_draws=7).share in {k/7 for k in range(8)}   # not a whole chunk


def test_less_drift_is_better(folders):
    for name, shift in dict(near=1, far=12).items():
        for id in IDS: write_picture(folders/name/f"{id}.png", np.minimum(read_rgb8(folders/"good"/f"{id}_x4.png"), 240) + np.uint8(shift))
    rivals = score_rivals([folders/"near", folders/"far"], low=folders/"low")
    assert rivals.beats(metric="drift").winner == "A" and rivals.beats("far", "near", "drift").winner == "B"
    assert rivals.sentences("drift")[0].startswith("near beats far in drift by ")
    assert r"\textbf{" in rivals.latex().splitlines()[4] and r"\textbf{" not in rivals.latex().splitlines()[5]   # of drift, too, the lower


# ---------------------------------------------------------------- folders

def test_numbers_are_those_of_metrics_and_faults_have_none(folders, rivals):
    sr, high = read_rgb8(folders/"good"/"boat_x4.png"), read_rgb8(folders/"high"/"boat.png")
    assert rivals.scores["ssim"].good["boat"] == ssim(sr, high) and rivals.scores["psnr"].good["boat"] == psnr(sr, high)
    assert rivals.scores["ssim"].poor[["boat", "tree"]].isna().all() and rivals.scores["ssim"].good.notna().all()
    assert {(row.method, row.problem[:9]) for row in rivals.problems.itertuples()} == {("poor", "no upscal"), ("poor", "is 144x12")}


def test_means_and_verdicts_take_the_pictures_that_both_have(rivals):
    both = rivals.scores["ssim"].loc[["0010", "zinnia"]]
    assert rivals.means.ssim["good"] == pytest.approx(both.good.mean())
    assert rivals.beats().n == 2 and "2 pictures, which are few" in rivals.sentences()[0]


def test_a_single_folder_has_a_table_and_no_verdict(folders):
    alone = score_rivals(folders/"good", folders/"high")
    assert alone.sentences() == [] and list(alone.table.columns) == [("ssim", "good"), ("psnr", "good")]
    with pytest.raises(ValueError, match="choose two of good"): alone.beats()
    assert list(alone.pictures("boat")) == ["good", "HR"]


def test_agreement_finds_what_was_invented(folders):
    rivals = score_rivals([folders/"good", folders/"poor"], low=folders/"low")
    scores = rivals.scores["agreement"]
    assert scores.good["0010"] > 50 > scores.poor["0010"] and np.isnan(scores.poor["boat"]) and np.isnan(scores.poor["tree"])
    assert any("a whole number of times" in text for text in rivals.problems.problem)
    assert list(rivals.pictures("0010")) == ["LR", "good", "poor"] and rivals.worst_crops(1)


def test_a_true_picture_too_small_for_a_window(tmp_path):
    for name in ("sr", "high"):
        write_picture(tmp_path/name/"dot.png", np.zeros((6, 6, 3), np.uint8))
        write_picture(tmp_path/name/"field.png", np.full((64, 64, 3), 9, np.uint8))
    rivals = score_rivals(tmp_path/"sr", tmp_path/"high")
    assert np.isnan(rivals.scores["ssim"].sr["dot"]) and rivals.scores["ssim"].sr["field"] == 1
    assert np.isnan(rivals.scores["psnr"].sr["field"])   # no infinity among numbers that are averaged
    assert len(explore(tmp_path/"sr", tmp_path/"high").table["rows"]) == 2


@pytest.mark.parametrize("height, width", [(5, 7), (8, 8), (130, 301), (16, 900)])
def test_means_over_squares_are_means(height, width):
    error = random_at(7).random((height, width)).astype(np.float32)
    found = _square_means(error, 2)
    if min(height, width) >= 16: assert found[0, 0] == pytest.approx(error[:16, :16].mean(), rel=1e-5)
    else: assert found.ndim == 2 and found.size
    top, left = find_difference(dict(a=np.zeros((height, width, 3), np.uint8)), np.zeros((height, width, 3), np.uint8))
    assert (top, left) == (0, 0)


def test_the_place_lies_in_the_picture():
    for row, column in ((0, 0), (399, 599), (200, 300)):
        truth, sr = np.zeros((2, 400, 600, 3), np.uint8)
        sr[max(0, row-9):row+9, max(0, column-9):column+9] = 200
        top, left = find_difference(dict(sr=sr), truth)
        assert 0 <= top <= 400 - 128 and 0 <= left <= 600 - 128 and top <= row < top + 128 and left <= column < left + 128


def test_latex_escapes_names():
    assert _escaped("50%_of {it} \\ #1") == r"50\%\_of \{it\} \textbackslash  \#1"


# ---------------------------------------------------------------- the widget

def test_what_the_browser_gets_is_json_and_small(rivals):
    explorer = Explorer(rivals)
    state = json.loads(json.dumps(explorer.get_state(["table", "chosen", "notes"]), allow_nan=False))
    rows = {row["id"]: row for row in state["table"]["rows"]}
    assert rows["boat"]["values"]["ssim"][1] is None and "no upscaled picture" in rows["boat"]["problem"]
    assert state["table"]["crops"][0]["id"] == rivals.table.index[0]
    assert Image.open(io.BytesIO(base64.b64decode(state["table"]["crops"][0]["data"]))).size == (4*132 - 4, 148)


def test_a_click_is_answered_with_the_place_and_its_tiles(rivals):
    explorer, sent = Explorer(rivals), []
    explorer.send = lambda content, buffers=None: sent.append((content, buffers))
    explorer._answer(None, dict(open="0010", number=7), [])
    explorer._answer(None, dict(tile=[1, 0, 0], of="0010", number=8), [])
    explorer._answer(None, dict(tile=[1, 0, 0], of="zinnia", number=9), [])   # a second view of the widget
    (opened, _), (_, (first,)), (_, (second,)) = sent
    assert opened["number"] == 7 and json.loads(opened["state"])["view"]["zoom"] == 3
    pixels = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in (first, second)]
    for shown, id in zip(pixels, ("0010", "zinnia")): np.testing.assert_array_equal(shown, rivals.pictures(id)["good"])


def test_a_picture_that_cannot_be_opened_is_a_sentence(folders, rivals):
    content, _ = Explorer(score_rivals(folders/"poor", folders/"high"))._reply(dict(open="boat", number=1))
    assert "no result that could be scored" in content["problem"]


def test_notes_come_back_and_empty_ones_go(rivals, tmp_path):
    explorer = Explorer(rivals, notes=tmp_path/"notes.csv")
    explorer.notes = dict(boat='soft, "woolly"\nsky', tree="")
    assert Explorer(rivals, notes=tmp_path/"notes.csv").notes == dict(boat='soft, "woolly"\nsky')
    (tmp_path/"other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected picture, note"): Explorer(rivals, notes=tmp_path/"other.csv")
    assert (tmp_path/"other.csv").read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("centre", [(0, 0), (70, 90), (127, 143)])
@pytest.mark.parametrize("side", [40, 61, 1000])
def test_a_cut_keeps_pictures_and_place_together(rivals, centre, side):
    pictures = rivals.pictures("zinnia")
    cut, (y, x) = _cut(pictures, centre, side)
    assert cut["HR"].shape[:2] == tuple(4*size for size in cut["LR"].shape[:2]) and max(cut["HR"].shape[:2]) <= max(side, 144)
    np.testing.assert_array_equal(cut["HR"][y, x], pictures["HR"][centre])
    np.testing.assert_array_equal(cut["LR"][y//4, x//4], pictures["LR"][centre[0]//4, centre[1]//4])


# ---------------------------------------------------------------- the page

def test_the_page_asks_nobody_and_cannot_be_broken_out_of(folders, tmp_path):
    evil = "</script><script>alert(1)</script>"
    explorer = Explorer(score_rivals({evil: folders/"good"}, folders/"high"))
    explorer.notes = {"boat": evil}
    text = explorer.save_html(tmp_path/"a.html", title=evil, note=evil, side=64).read_text(encoding="utf-8")
    assert evil not in text
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!data:)\w|url\(|@import|https?://(?!www\.w3\.org)""", text)


def test_the_page_stays_below_its_limit_and_leaves_the_best_rows_out(rivals, tmp_path):
    explorer, sizes, counts = Explorer(rivals), [], []
    full = explorer.save_html(tmp_path/"full.html", side=128).read_text()
    rows = sum(len(part) for part in full.split('id="state-')[1:])   # what the rows take of the page
    bare = (len(full) - rows)/1e6
    for most in (bare + 0.1*rows/1e6, bare + 0.6*rows/1e6, 5):
        page = explorer.save_html(tmp_path/"page.html", side=128, max_mb=most)
        sizes.append(page.stat().st_size)
        counts.append([f'id="state-{row}"' in page.read_text() for row in range(4)])
        assert sizes[-1] <= most*1e6
    assert counts[-1] == [True]*4 and sorted(counts[1], reverse=True) == counts[1] and sum(counts[0]) <= sum(counts[1]) < 4


def test_report_from_the_command_line(folders, tmp_path):
    done = here("paintsr_report", folders/"good", folders/"poor", folders/"high", "--low", folders/"low", "--out", tmp_path/"r.html",
                "--csv", tmp_path/"r.csv", "--latex", tmp_path/"r.tex", "--rows", 2, "--side", 64, code=1)
    assert "good beats poor in SSIM by" in done.stdout and str(tmp_path/"r.html") in done.stdout and "boat" in done.stderr
    text = (tmp_path/"r.html").read_text()
    assert "wang_rgb" in text and text.count('id="state-') == 2 and "good beats poor" in text
    assert pd.read_csv(tmp_path/"r.csv", dtype=dict(picture=str)).picture.tolist() == score_rivals(folders/"good", folders/"high").table.index.tolist()
    assert r"\toprule" in (tmp_path/"r.tex").read_text()
    assert "is there already" in here("paintsr_report", folders/"good", folders/"high", "--out", tmp_path/"r.html", code=1).stderr


def test_before_and_after_needs_no_high(folders, tmp_path):
    done = here("paintsr_report", folders/"good", "--before", folders/"low", "--out", tmp_path/"r.html")
    text = (tmp_path/"r.html").read_text()
    state = json.loads(re.search(r'id="state-0">(.*?)</script>', text)[1])
    assert "agreement" in done.stdout and (state["view"]["left"], state["view"]["right"], state["truth"]) == ("LR", "good", "")


@pytest.mark.parametrize("words, sentence", [([], "name the folders"), (["good"], "name the folders"), (["nowhere", "high"], "no folder"),
                                             (["good", "high", "--protocol", "x"], "choose one of")])
def test_what_report_refuses(folders, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(folders)
    assert sentence in here("paintsr_report", *words, "--out", tmp_path/"r.html", code=1).stderr
    assert not (tmp_path/"r.html").exists()


# ---------------------------------------------------------------- runs

def write_run(folder, scores, stage="l1"):
    for epoch in range(len(scores)): write_picture(folder/"preview"/f"0_{stage}_epoch_{epoch:04}.png", np.full((8, 24, 3), 10*epoch, np.uint8))
    rows = [dict(stage=stage, epoch=-1, step=0, ssim=0.1), *(dict(stage=stage, epoch=epoch, step=epoch, ssim=score) for epoch, score in enumerate(scores))]
    pd.DataFrame(rows).to_csv(folder/"history.csv", index=False)


def test_runs_of_two_lengths(tmp_path):
    write_run(tmp_path/"a", [0.2, 0.5, 0.4])
    write_run(tmp_path/"b", [0.3, 0.2, 0.4, 0.6, 0.1])
    slider = explore([tmp_path/"a", tmp_path/"b"])
    assert slider.step == 1 and [[step["best"] for step in run["steps"]].index(True) for run in slider.runs] == [1, 3]
    slider.step = 4
    assert [file.name for file in slider.files.values()] == ["0_l1_epoch_0002.png", "0_l1_epoch_0004.png"]
    json.dumps(slider.get_state(["runs"]), allow_nan=False)
    text = slider.save_html(tmp_path/"page.html").read_text()
    assert text.count('type="image/png"') == 8 and 'id="tile-1-4"' in text


def test_previews_without_history_and_of_two_stages(tmp_path):
    write_run(tmp_path/"a", [0.2, 0.5])
    write_picture(tmp_path/"a"/"preview"/"1_gan_epoch_0000.png", np.zeros((8, 24, 3), np.uint8))
    table = read_previews(tmp_path/"a")
    assert table.stage.tolist() == ["l1", "l1", "gan"] and np.isnan(table.ssim[2])
    (tmp_path/"a"/"history.csv").unlink()
    assert RunExplorer(dict(a=tmp_path/"a")).step == 2   # the last, because nothing says which is best
