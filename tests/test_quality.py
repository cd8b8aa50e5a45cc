"""The benchmark of models and the card that it writes: on two small pictures, with a tiny net.

Not in the notebooks because it is a script beside them."""
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]/"benchmarks"))
import quality
from paintsr_nb.data.technique import jpeg_of_pixels
from paintsr_nb.metrics import psnr, ssim
from paintsr_nb.nets.card import render_card
from paintsr_nb.nets.generators import make_generator
from paintsr_nb.nets.weights import read_safetensors, save_model
from paintsr_nb.picture import read_rgb8, write_picture
from paintsr_nb.resize import enlarge, shrink
from paintsr_nb.samples import samples


@pytest.fixture
def pictures(tmp_path):
    for sample in samples(["pagoda", "cat"]): write_picture(tmp_path/"set"/f"{sample.id}.png", sample.high[900:1100, 900:1141])
    return tmp_path/"set"


def test_numbers_are_those_of_the_saved_files(pictures, tmp_path):
    quality.main(models="bicubic,lanczos,back_projected", sets=str(pictures), jpeg="75", degraded="box,scan", out=str(tmp_path/"out"), work=str(tmp_path/"work"))
    told = json.loads((tmp_path/"out"/"quality.json").read_text())
    assert len(told["rows"]) == 4*3 and len(told["pictures"]) == 2*4*3
    high = quality.centre_crop(read_rgb8(pictures/"cat.png"))
    row = next(row for row in told["pictures"] if (row["id"], row["condition"], row["method"]) == ("cat", "clean", "bicubic"))
    assert high.shape == (200, 240, 3) and row["wang_rgb_ssim"] == ssim(enlarge(shrink(high)), high) and row["paper_y_psnr"] == psnr(enlarge(shrink(high)), high, "paper_y")
    saved = next((tmp_path/"work").rglob("JPEG75/bicubic/cat.png"))
    row = next(row for row in told["pictures"] if (row["id"], row["condition"], row["method"]) == ("cat", "JPEG 75", "bicubic"))
    assert row["wang_rgb_psnr"] == psnr(read_rgb8(saved), high)
    mean, low, top = told["rows"][1]["ssim_gain"]
    assert low <= mean <= top and np.isclose(mean, told["rows"][1]["wang_rgb_ssim"] - told["rows"][0]["wang_rgb_ssim"])
    assert "| JPEG 75 | lanczos |" in (tmp_path/"out"/"quality.md").read_text() and (tmp_path/"out"/"quality.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="no degradation 'blurr'"): quality.conditions_of(degraded=["blurr"])


def test_jpeg_is_made_of_the_lr_picture(pictures):
    pair = next(quality.pairs_of(pictures))
    assert jpeg_of_pixels(quality.conditions_of([75])["JPEG 75"](pair, 0)) == 75


def test_the_card_gets_the_numbers_and_the_weights_stay(pictures, tmp_path):
    save_model(tmp_path/"mine.safetensors", make_generator("compact", num_filters=4, num_blocks=1), card=dict(recipe="l1"))
    before, _ = read_safetensors(tmp_path/"mine.safetensors")
    (tmp_path/"about.json").write_text(json.dumps(dict(use="Nothing.", limits=["It was never trained."])))
    quality.main(models="bicubic", sets=str(pictures), jpeg="75", card=str(tmp_path/"mine.safetensors"), about=str(tmp_path/"about.json"))
    after, header = read_safetensors(tmp_path/"mine.safetensors")
    assert all((after[key] == before[key]).all() for key in before) and header["card"]["recipe"] == "l1"
    assert [row["condition"] for row in header["card"]["numbers"]] == ["clean", "JPEG 75"]
    text = render_card(tmp_path/"mine.safetensors")
    assert "## Limits\n\n- It was never trained." in text and "set | JPEG 75 | 2 |" in text


def test_the_readme_has_clean_and_jpeg_columns():
    row = dict(method="default", pictures=5, paper_y_psnr=31.2, paper_y_ssim=0.9, wang_rgb_ssim=0.5)
    rows = [row | dict(set=name, condition=condition) for name in ("Set5", "paintings/test") for condition in ("clean", "JPEG 75")]
    lines = quality.readme_table(rows).splitlines()
    assert lines[0] == "| set | model | clean | JPEG 75 |"
    assert lines[2:] == ["| Set5, 5 pictures (`paper_y`) | default | 31.20 / 0.9000 | 31.20 / 0.9000 |",
                         "| paintings/test, 5 pictures (`wang_rgb`) | default | 31.20 / 0.5000 | 31.20 / 0.5000 |"]


def test_stripes_show_in_the_table_of_directions(pictures, capsys):
    class Striped:
        name = "striped"

        def __call__(self, low):
            wave = np.sin(2.4*np.add.outer(np.arange(200), np.arange(240))/2**0.5)[..., None]
            return np.clip(enlarge(low) + 12*wave, 0, 255).astype(np.uint8)
    found = quality.direction_ratios(pictures, [Striped(), quality.method_of("bicubic")])
    assert found["striped"][1].argmax() == 3 and found["striped"][1].max() > 2 > found["bicubic"][1].max()
    assert quality.directions_table(found).splitlines()[3].endswith("| 45° |")
    quality.main(models="bicubic", sets=str(pictures), directions=True)
    assert "| bicubic | 1/8-1/4 |" in capsys.readouterr().out


def test_a_contact_sheet_shows_two_parts_by_each_model(pictures):
    low = read_rgb8(pictures/"cat.png")
    sheet = quality.contact_sheet(low, [quality.method_of("bicubic"), quality.method_of("lanczos")], side=40)
    assert sheet.size == (3*168, 2*168 + 20)
