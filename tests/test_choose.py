"""The model that a picture needs: chosen by file or pixels, said in report and last line, mixed by strength. A made net stands in for `scan`.

Not in the notebooks because it puts files among the packaged ones, and goes through many real pictures."""
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from paintsr_nb.commands import paintsr_upscale
from paintsr_nb.core import list_pictures
from paintsr_nb.data.technique import through_jpeg
from paintsr_nb.nets import weights
from paintsr_nb.nets.foreign import load_model
from paintsr_nb.nets.generators import make_generator
from paintsr_nb.picture import read_rgb8, write_picture
from paintsr_nb.resize import crop_to_multiple, shrink
from paintsr_nb.samples import samples
from paintsr_nb.upscaling.choose import choose_model, told_choices
from paintsr_nb.upscaling.auto import AutoUpscaler
from paintsr_nb.upscaling.engine import Upscaler, upscale
from paintsr_nb.upscaling.folder import upscale_files
from paintsr_nb.upscaling.refine import refined


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    "A package that brings a tiny `default` and a tiny `scan`."
    (tmp_path/"package"/"models").mkdir(parents=True)
    for seed, name in enumerate(("default", "scan")):
        torch.manual_seed(seed)
        weights.save_model(tmp_path/"package"/"models"/f"{name}.safetensors", make_generator("compact", num_filters=4, num_blocks=1))
    monkeypatch.setattr(weights, "files", lambda name: tmp_path/"package")
    return tmp_path


@pytest.fixture
def scans(packaged):
    "A clean PNG, a JPEG, a PNG that was a JPEG, and a fine JPEG."
    low = samples("pagoda")[0].low[200:264, 200:280]
    write_picture(packaged/"in"/"clean.png", low)
    write_picture(packaged/"in"/"once.png", through_jpeg(low, 70))
    for name, quality in (("fine", 99), ("web", 60)): Image.fromarray(low).save(packaged/"in"/f"{name}.jpg", quality=quality)
    return packaged/"in"


EXPECTED = dict(clean="default", fine="default", once="scan", web="scan")


@pytest.mark.parametrize("tta", [False, True])
def test_each_picture_goes_through_its_model(scans, tmp_path, tta):
    report = upscale_files(scans, tmp_path/"out", refined("auto", tta=tta), precise=True, show_progress=False)
    assert report.status.tolist() == ["done"]*4
    for row, (name, model) in zip(report.itertuples(), EXPECTED.items()):
        assert row.reason.startswith(f"model {model} ("), row.reason
        assert np.array_equal(read_rgb8(row.output), Upscaler(refined(model, tta=tta), precise=True)(read_rgb8(row.file))), name
    assert "JPEG of quality 60" in report.reason[3] and "was a JPEG of quality 70" in report.reason[1 + 1]


def test_the_last_line_says_which_and_why(scans, tmp_path, capsys):
    assert paintsr_upscale(str(scans), out=str(tmp_path/"out"), precise=True) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert "4 done; 2 by default (no trace of JPEG or noise; fine JPEG of quality 99); 2 by scan (" in last
    assert paintsr_upscale(str(scans), out=str(tmp_path/"named"), model="default", precise=True) == 0
    assert capsys.readouterr().out.startswith("4 done: the results are in ")


def test_strength_mixes_the_weights(scans, tmp_path):
    low = read_rgb8(scans/"web.jpg")
    half = weights.interpolated(load_model("default"), load_model("scan"), 0.5)
    assert paintsr_upscale(str(scans/"web.jpg"), out=str(tmp_path/"out"), strength=0.5, precise=True) == 0
    assert np.array_equal(read_rgb8(tmp_path/"out"/"web_x4.png"), Upscaler(half, precise=True)(low))
    assert not np.array_equal(Upscaler(half, precise=True)(low), Upscaler("scan", precise=True)(low))
    assert np.array_equal(upscale(low, strength=1), upscale(low, "scan"))
    assert np.array_equal(upscale(low), upscale(low, "scan"))
    with pytest.raises(ValueError, match="leave one of them out"): paintsr_upscale(str(scans), model="scan", strength=0.5)


def test_without_scan_it_is_default_and_says_so(scans, tmp_path):
    (tmp_path/"package"/"models"/"scan.safetensors").unlink()
    choice = choose_model(scans/"web.jpg")
    assert choice.model == "default" and "no model `scan` is packaged" in choice.why
    assert "; 1 by default (JPEG of quality 60, but no model `scan` is packaged)" == told_choices([f"model {choice}"])
    with pytest.raises(FileNotFoundError, match="no model 'scan'"): refined("auto", strength=0.5)


def test_each_model_is_made_ready_once(scans):
    up = AutoUpscaler(precise=True)
    for path in list_pictures(scans)*2: up(read_rgb8(path))
    assert sorted(up.ready) == ["default", "scan"]


@pytest.mark.parametrize("shape", [(1, 1), (24, 24), (25, 300), (8, 400)])
def test_odd_sizes_are_chosen_for(shape):
    assert choose_model(np.full((*shape, 3), 128, np.uint8)).model == "default"
    assert choose_model(np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8), models=("scan",)).model in ("default", "scan")


@pytest.mark.shared
def test_real_pictures_are_told_apart(data):
    both, rng = ("default", "scan"), np.random.default_rng(0)
    files = list_pictures(data/"paintings"/"test")[::3] + list_pictures(data/"photos")[::6]
    lows = [shrink(crop_to_multiple(read_rgb8(path)[:1024, :1024])) for path in files]
    def share(make): return np.mean([choose_model(np.ascontiguousarray(make(low)), models=both).model == "scan" for low in lows])
    assert share(lambda low: low) == 0
    assert share(lambda low: through_jpeg(low, 98)) == 0
    for quality in (50, 75, 90, 95): assert share(lambda low: through_jpeg(low, quality)) == 1
    assert share(lambda low: through_jpeg(low, 60)[3:, 5:]) >= 0.9
    assert share(lambda low: np.clip(np.rint(low + rng.normal(0, 3, low.shape)), 0, 255).astype(np.uint8)) == 1


def test_a_card_is_printed(packaged, capsys):
    from paintsr_nb.commands import paintsr_models
    weights.save_model(packaged/"mine.safetensors", make_generator("compact", num_filters=4, num_blocks=1), card=dict(licence="CC0-1.0", limits=["Never trained."]))
    assert not paintsr_models(str(packaged/"mine.safetensors"), card=True)
    text = capsys.readouterr().out
    assert text.startswith("# mine.safetensors") and "Licence: CC0-1.0" in text and "## Limits\n\n- Never trained." in text
