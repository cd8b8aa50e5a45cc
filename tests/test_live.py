"""What the page about live views leaves out: wishes that come faster than a net, errors in the thread, odd regions, foreign kinds of input."""
import threading, time

import numpy as np
import pytest
import torch
from PIL import Image

from paintsr_nb.core import random_at
from paintsr_nb.metrics import psnr, ssim
from paintsr_nb.nets.generators import make_generator
from paintsr_nb.nets.weights import save_model
from paintsr_nb.resize import enlarge, shrink
from paintsr_nb.upscaling.engine import Upscaler
from paintsr_nb.viewing import live
from paintsr_nb.viewing.live import _around, _Blend, _checked_region, _Latest, preview, texture_slider


@pytest.fixture(scope="module")
def scene():
    high = enlarge(enlarge(random_at(2).integers(0, 256, (12, 15, 3)).astype(np.uint8)))
    return shrink(high), high


@pytest.fixture(scope="module")
def nets():
    torch.manual_seed(0)
    return make_generator("compact", num_filters=8, num_blocks=1).eval(), make_generator("compact", num_filters=8, num_blocks=1).eval()


# ---------------------------------------------------------------- a region

@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("region", [(0, 0, 8, 8), (40, 52, 8, 8), (3, 17, 21, 9), (0, 0, 48, 60)])
def test_the_box_holds_region_and_context_at_whole_steps(region, step):
    (rows, columns), inside = _around(region, 7, step, (48, 60, 3))
    for box, part, start, side, size in zip((rows, columns), inside, region[:2], region[2:], (48, 60)):
        assert box.start % step == 0 and box.start <= max(0, start - 7) and box.stop >= min(size, start + side + 7) and box.stop <= size
        assert (box.start + part.start, part.stop - part.start) == (start, side)


@pytest.mark.parametrize("region", [(-1, 0, 9, 9), (0, 0, 7, 9), (41, 0, 8, 8), (0, 53, 8, 8)])
def test_regions_beyond_the_picture_are_refused(region):
    with pytest.raises(ValueError, match="48 rows and 60 columns"): _checked_region(region, (48, 60, 3))


def test_the_middle_of_a_small_picture_is_all_of_it(): assert _checked_region(None, (48, 60, 3)) == (0, 0, 48, 60)


# ---------------------------------------------------------------- several models

def test_files_pillow_images_and_names(scene, nets, tmp_path):
    low, high = scene
    save_model(tmp_path/"small.safetensors", nets[0])
    Image.fromarray(low).save(tmp_path/"low.png")
    seen = preview(tmp_path/"low.png", ["lanczos", tmp_path/"small.safetensors"], region=(8, 8, 16, 20), high=Image.fromarray(high))
    np.testing.assert_array_equal(seen.results["lanczos"], enlarge(low, kernel="lanczos")[32:96, 32:112])
    whole = Upscaler(nets[0])(low)[32:96, 32:112].astype(int)
    assert np.abs(seen.results[str(tmp_path/"small.safetensors")] - whole).max() <= 1
    np.testing.assert_array_equal(seen.high, high[32:96, 32:112])
    assert "lanczos" in repr(seen) and len(seen.figure().axes) == 4


def test_a_net_of_another_scale_comes_to_the_same_size(scene):
    double = make_generator("compact", num_filters=8, num_blocks=1, scale=2)
    seen = preview(scene[0], dict(bicubic="bicubic", double=double), region=(0, 0, 16, 16))
    assert seen.results["double"].shape == seen.results["bicubic"].shape == (64, 64, 3)
    seen.compare()


def test_the_estimate_counts_what_the_tiles_see(nets, monkeypatch):
    "A clock that ticks by pixels: the estimate is then exact."
    clock, net = [0.0], nets[0]
    monkeypatch.setattr(live.time, "perf_counter", lambda: clock[0])
    seen = []
    real = Upscaler.__call__
    def ticking(self, pixels, *args, **kwargs):
        seen.append(pixels.shape)
        clock[0] += pixels[..., 0].size
        return real(self, pixels, *args, **kwargs)
    monkeypatch.setattr(Upscaler, "__call__", ticking)
    low = np.zeros((200, 300, 3), np.uint8)
    table = preview(low, dict(net=net), region=(50, 50, 32, 32)).table
    tiles = Upscaler(net).plan(200, 300)
    assert table.whole["net"] == sum((t.box[0].stop - t.box[0].start)*(t.box[1].stop - t.box[1].start) for t in tiles)
    assert table.seconds["net"] == seen[0][0]*seen[0][1] == (32 + 2*net.context)**2


def test_an_unknown_model_is_named(scene):
    with pytest.raises((ValueError, OSError), match="nothing-like-this"): preview(scene[0], ["nothing-like-this"], region=(0, 0, 16, 16))


# ---------------------------------------------------------------- the last wish

def test_what_is_under_way_is_given_up_between_layers(scene, nets):
    "The check raises at the third layer, and the blend can be asked again."
    blend, layers = _Blend(*nets, precise=True), []
    def check():
        layers.append(1)
        if len(layers) == 3: raise live._Moved()
    with pytest.raises(live._Moved): blend(scene[0], (0, 0, 16, 16), 0.5, check)
    assert len(layers) == 3
    assert blend(scene[0], (0, 0, 16, 16), 0.5).shape == (64, 64, 3) and len(layers) == 3


def test_only_the_last_of_many_wishes_is_shown(scene, nets, monkeypatch):
    slider = texture_slider(scene[0], *nets, high=scene[1], region=(0, 0, 16, 16))
    begun, go, shown = threading.Event(), threading.Event(), []
    slider.observe(lambda change: shown.append(change["new"]), "shown")
    real, shares = _Blend.__call__, []
    def slow(self, low, region, share, check):
        shares.append(share)
        begun.set()
        go.wait(20)
        return real(self, low, region, share, check)
    monkeypatch.setattr(_Blend, "__call__", slow)
    slider.share = 0.1
    assert begun.wait(20)
    for share in (0.2, 0.3, 0.9): slider.share = share
    go.set()
    assert slider.wait()
    assert shares == [0.1, 0.9] and shown == [0.9]   # 0.1 was begun and given up
    monkeypatch.undo()
    np.testing.assert_array_equal(slider.pixels, slider.blend(scene[0], (0, 0, 16, 16), 0.9))


def test_the_scores_are_those_of_metrics_at_the_place_in_view(scene, nets):
    slider = texture_slider(scene[0], *nets, high=scene[1], region=(0, 0, 16, 24))
    slider.corner = [20, 8]
    assert slider.wait()
    truth = scene[1][32:96, 80:176]
    assert slider.scores["PSNR"] == psnr(slider.pixels, truth) and slider.scores["SSIM"] == ssim(slider.pixels, truth)
    assert len(slider.truth) and "SSIM" in repr(slider)


def test_without_high_there_are_no_scores_and_no_distance(scene, nets, monkeypatch):
    monkeypatch.setattr(live, "_distance", None)
    slider = texture_slider(scene[0], *nets, region=(0, 0, 16, 16))
    assert slider.scores == {} and slider.truth == b"" and "no HR" in repr(slider)


def test_an_error_in_the_thread_reaches_the_view(scene, nets, monkeypatch):
    slider = texture_slider(scene[0], *nets, region=(0, 0, 16, 16))
    def broken(*_): raise RuntimeError("the card fell off the bus")
    monkeypatch.setattr(_Blend, "__call__", broken)
    slider.share = 0.2
    assert slider.wait() and slider.problem == "RuntimeError: the card fell off the bus" and slider.shown == 0.5
    monkeypatch.undo()
    slider.share = 0.3
    assert slider.wait() and (slider.problem, slider.shown) == ("", 0.3)


def test_a_saved_output_holds_a_picture(scene, nets):
    data, _ = texture_slider(scene[0], *nets, region=(0, 0, 16, 16))._repr_mimebundle_()
    assert "data:image/jpeg;base64," in data["text/html"] and "widget-view" not in "".join(data)


def test_batch_norm_is_mixed_too(scene):
    "Running means and variances are weights of the mixture; a counter is not."
    nets = [make_generator("srresnet", num_filters=8, num_blocks=1) for _ in range(2)]
    for at, net in enumerate(nets):
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d): module.running_mean.fill_(at)
    blend = _Blend(*nets, precise=True)
    blend(scene[0], (0, 0, 16, 16), 0.25)
    means = [module.running_mean for module in blend.up.net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert means and all(torch.allclose(mean, torch.full_like(mean, 0.25)) for mean in means)


def test_the_latest_rests_and_wakes_again():
    done = []
    latest = _Latest(lambda wish: done.append(wish), failed=done.append)
    for wish in range(3):
        latest.ask(wish)
        assert latest.wait(20)
    assert done == [0, 1, 2]
    before = threading.active_count()
    time.sleep(0.05)
    assert threading.active_count() <= before and latest.wait(0)
