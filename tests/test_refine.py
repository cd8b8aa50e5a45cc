"More than one pass: products of sizes, scales, tiles and depths; what the page of it does not show."
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from paintsr_nb.core import list_pictures
from paintsr_nb.nets.foreign import load_model
from paintsr_nb.nets.generators import Generator, WrappedNet, make_generator
from paintsr_nb.nets.tensors import to_tensor
from paintsr_nb.nets.weights import save_model
from paintsr_nb.picture import read_rgb8
from paintsr_nb.resize import enlarge, resize, shrink
from paintsr_nb.samples import samples
from paintsr_nb.upscaling import refine
from paintsr_nb.upscaling.engine import Upscaler
from paintsr_nb.upscaling.refine import Ensemble, Rescaled, consistent_with, refined

pytestmark = pytest.mark.usefixtures("one_thread")


def net(scale=4, seed=0):
    torch.manual_seed(seed)
    made = make_generator("compact", num_filters=8, num_blocks=1, scale=scale).eval()
    for parameter in made.parameters(): nn.init.normal_(parameter, std=0.15)
    return made


@pytest.fixture(scope="module")
def painting(): return samples("dahlia")[0]


@pytest.fixture(scope="module")
def low(painting): return painting.low[200:249, 240:303]


def noise(height, width, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(np.iinfo(dtype).max, size=(height, width, 3), dtype=dtype, endpoint=True)


class Windows(Generator):
    "Looks at windows of eight pixels: each sample is the mean of its window beside itself, so tiles must begin where windows do."
    def __init__(self): super().__init__(scale=2, context=8, step=8)

    def forward(self, x):
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
        means = F.avg_pool2d(x, 8).repeat_interleave(8, -1).repeat_interleave(8, -2)
        ramp = torch.linspace(0.2, 0.8, 8).repeat(x.shape[-1]//8)   # not the same from the other side
        return F.interpolate(x*ramp + means*(1 - ramp), scale_factor=2.0, mode="nearest")[..., :2*height, :2*width]


# --- eight views --------------------------------------------------------------------------------------------------

def test_the_ensemble_is_the_mean_of_eight_positions(low):
    one, levels = net(), []
    with torch.no_grad():
        for mirrored in (False, True):
            for turns in range(4):
                view = np.rot90(low[:, ::-1] if mirrored else low, turns).copy()
                sr = one(to_tensor(view))[0].permute(1, 2, 0).numpy()
                sr = np.rot90(sr, -turns)
                levels.append(sr[:, ::-1] if mirrored else sr)
        found = Ensemble(one)(to_tensor(low))[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, np.mean(levels, axis=0), atol=2e-6)


@pytest.mark.parametrize("tile", [8, 16, 30])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("make", [lambda: Ensemble(net()), lambda: Ensemble(Windows()), lambda: Rescaled(net(), 3), lambda: Rescaled(net(2), 8),
                                  lambda: Rescaled(net(), 8), lambda: Rescaled(Ensemble(net(2)), 3), lambda: Rescaled(Windows(), 3)])
def test_tiled_is_whole(low, make, tile, dtype):
    pixels = low.astype(dtype)*(257 if dtype == np.uint16 else 1)
    made = make()
    whole, tiled = (Upscaler(made, tile=side, precise=True)(pixels).astype(int) for side in (1000, tile))
    assert whole.shape == (made.scale*low.shape[0], made.scale*low.shape[1], 3)
    assert np.abs(whole - tiled).max() <= 1


# --- another scale ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("own,scale", [(4, 1), (4, 2), (4, 3), (4, 4), (4, 5), (4, 8), (4, 16), (2, 3), (2, 4), (2, 8), (3, 2), (3, 4), (8, 3)])
def test_every_scale_gives_its_size(own, scale):
    with torch.no_grad(): assert Rescaled(net(own), scale)(torch.rand(2, 3, 5, 3)).shape == (2, 3, 5*scale, 3*scale)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_smaller_scale_is_the_result_shrunk(low, scale):
    one = net()
    with torch.no_grad(): full, small = (made(to_tensor(low))[0].permute(1, 2, 0).numpy() for made in (one, Rescaled(one, scale)))
    np.testing.assert_allclose(small, resize(full, low.shape[0]*scale, low.shape[1]*scale), atol=1e-5*np.abs(full).max())


def test_the_passes_are_the_net_after_the_net(low):
    one = net(2)
    with torch.no_grad():
        found = Rescaled(one, 4)(to_tensor(low))
        assert torch.equal(found, one(one(to_tensor(low)).clamp(0, 1)))


def test_its_own_scale_leaves_the_model(tmp_path):
    assert type(refined("default", scale=4)).__name__ == "Compact"
    assert refined("default", scale=2).scale == 2


def test_the_scale_counts_in_a_folder(tmp_path):
    "Opacity and resolution follow the scale that was asked for."
    from paintsr_nb.picture import PictureRest, read_picture, write_picture
    from paintsr_nb.upscaling.folder import upscale_files
    write_picture(tmp_path/"in"/"boat.png", noise(8, 9), PictureRest(alpha=noise(8, 9)[..., 0], dpi=(300.0, 300.0)))
    report = upscale_files(tmp_path/"in", tmp_path/"out", Rescaled(net(), 3), consistent=True, show_progress=False)
    pixels, rest = read_picture(report.output[0])
    assert report.status.tolist() == ["done"] and pixels.shape == (24, 27, 3) and rest.alpha.shape == (24, 27)
    assert rest.dpi[0] == pytest.approx(900, abs=0.1)


# --- agreement ----------------------------------------------------------------------------------------------------

def off(sr, low, scale): return np.abs(shrink(sr, scale).astype(int) - low).max()


def posters(dtype):
    "What nets overshoot most: black and white side by side, and thin lines."
    most = np.iinfo(dtype).max
    picture = np.zeros((96, 144, 3), dtype)
    picture[:, 48:96] = most
    picture[20:24] = most
    picture[60:70, 60:70] = 0
    picture[40:, 100:104, 1] = most//2
    return picture


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("content", ["painting", "posters", "grey"])
def test_within_one_level_of_what_was_shrunk(painting, scale, dtype, content):
    high = painting.high[800:896, 960:1104] if content == "painting" else posters(np.uint8)
    high = np.ascontiguousarray(high[:96, :144]).astype(dtype)*(257 if dtype == np.uint16 else 1)
    if content == "grey": high = high[..., 0]
    low = shrink(high, scale)
    starts = [enlarge(low, scale), enlarge(low, scale, "lanczos"), np.zeros_like(high), np.full_like(high, np.iinfo(dtype).max)]
    for start in starts[:2 if scale == 8 else 4]:
        hardest = dtype == np.uint16 and content != "painting"   # the poster itself is nearly the only picture that fits
        with warnings.catch_warnings(action="ignore" if hardest else "error"): made = consistent_with(low, start)
        assert made.dtype == dtype and made.shape == high.shape and off(made, low, scale) <= (64 if hardest else 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("height,width", [(1, 1), (1, 7), (33, 2), (65, 40)])
def test_within_one_level_at_any_size(dtype, height, width):
    high = resize(noise(height, width, dtype, seed=height), 4*height, 4*width)
    low = shrink(high)
    assert off(consistent_with(low, enlarge(low)), low, 4) <= 1


def test_strips_have_no_seams(painting, monkeypatch):
    low = shrink(painting.high[:1000, 1000:1200])
    start, made = enlarge(low), []
    for rows in (8, 32, 37, 10_000):
        monkeypatch.setattr(refine, "_ROWS", rows)
        made.append(consistent_with(low, start))
    assert all(np.array_equal(one, made[0]) for one in made)


def test_what_agrees_already_is_left_alone(painting):
    high = painting.high[:400, :400]
    assert np.array_equal(consistent_with(shrink(high), high), high)


@pytest.mark.parametrize("tile", [None, 16, 23])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_engine_keeps_the_bound_at_any_tile(painting, tile, dtype):
    high = painting.high[800:1000, 960:1160].astype(dtype)*(257 if dtype == np.uint16 else 1)
    low = shrink(high)
    assert off(Upscaler("default", tile=tile, consistent=True)(low), low, 4) <= 1


def test_contrasts_that_no_picture_can_give_are_counted():
    low = noise(20, 20)
    with pytest.warns(UserWarning, match=r"[\d,]+ of 1,200 samples stay up to \d+ levels off"): made = consistent_with(low, enlarge(low), n_rounds=30)
    assert np.abs(shrink(made).astype(int) - low).mean() < np.abs(shrink(enlarge(low)).astype(int) - low).mean()


def test_a_model_of_1x_cannot_agree():
    with pytest.raises(ValueError, match="is a model of 1x"): Upscaler(WrappedNet(nn.Identity(), scale=1, context=0), consistent=True)


@pytest.mark.shared
def test_real_pictures_nearly_all_agree(data):
    "They came through JPEG and sharpening; what cannot be had is a handful of samples, and is said."
    for path in list_pictures(data/"lr600")[:4]:
        low = read_rgb8(path)[100:300, 100:300]
        with warnings.catch_warnings(action="ignore"): made = consistent_with(low, enlarge(low))
        far = np.abs(shrink(made).astype(int) - low)
        assert (far > 1).mean() < 1e-4 and far.max() <= 8, path.name


# --- by name ------------------------------------------------------------------------------------------------------

def test_a_blend_of_two_files(tmp_path, low):
    one, two = net(seed=0), net(seed=1)
    for name, made in (("one", one), ("two", two)): save_model(tmp_path/f"{name}.safetensors", made)
    mixed = refined(tmp_path/"one.safetensors", blend=f"{tmp_path/'two.safetensors'}:0.25")
    expected = 0.75*one.conv_first.weight + 0.25*two.conv_first.weight
    torch.testing.assert_close(mixed.conv_first.weight, expected)
    save_model(tmp_path/"mixed.safetensors", mixed)
    assert torch.equal(load_model(tmp_path/"mixed.safetensors").conv_first.weight, mixed.conv_first.weight)


def test_a_blend_of_different_nets_is_refused(tmp_path):
    save_model(tmp_path/"other.safetensors", make_generator("compact", num_filters=4, num_blocks=1))
    with pytest.raises(ValueError, match="interpolate between stages of one training"): refined("default", blend=f"{tmp_path/'other.safetensors'}:0.5")
