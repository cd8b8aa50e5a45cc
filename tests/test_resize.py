"What is no reading matter about resizing: every kernel, border and size against a slow reference, and the LR files of the benchmarks."
import numpy as np
import pytest

from paintsr_nb.metrics import psnr
from paintsr_nb.picture import read_rgb8
from paintsr_nb.resize import KERNELS, back_project, crop_to_multiple, enlarge, resize, resize_matrix, shrink

rng = np.random.default_rng(0)
PICTURE = rng.integers(0, 256, (23, 31, 3), dtype=np.uint8)


# The real thing

@pytest.mark.shared
def test_shrink_makes_the_benchmarks_lr_files_bit_for_bit(data):
    pairs = [(high, high.parent.parent/"LR"/high.name) for name in ("Set5", "Set14") for high in sorted((data/"bench"/name/"HR").iterdir())]
    assert len(pairs) == 19
    for high, low in pairs: np.testing.assert_array_equal(shrink(read_rgb8(high)), read_rgb8(low), err_msg=str(high))

@pytest.mark.shared
@pytest.mark.parametrize("name, decibels", [("Set5", 28.43), ("Set14", 26.09)])
def test_enlarge_is_the_bicubic_of_the_papers(data, name, decibels):
    pairs = [(read_rgb8(high), read_rgb8(high.parent.parent/"LR"/high.name)) for high in sorted((data/"bench"/name/"HR").iterdir())]
    assert np.mean([psnr(enlarge(low), high, "paper_y") for high, low in pairs]) == pytest.approx(decibels, abs=0.006)

@pytest.mark.shared
def test_back_projection_beats_bicubic_on_every_picture_of_set5(data):
    for high in sorted((data/"bench"/"Set5"/"HR").iterdir()):
        true, low = read_rgb8(high), read_rgb8(high.parent.parent/"LR"/high.name)
        assert psnr(back_project(low, enlarge(low)), true) > psnr(enlarge(low), true) + 0.3


# Against a reference that takes the definitions word by word

def slow_axis(values, n_out, kernel, antialias, border):
    "One row of floats, pixel by pixel."
    n_in, (function, width) = len(values), KERNELS[kernel]
    stretch = max(n_in/n_out, 1) if antialias else 1
    result = []
    for i in range(n_out):
        at, total, weight_sum = (i + 0.5)*n_in/n_out - 0.5, 0.0, 0.0
        if kernel == "nearest":
            result.append(values[int((i + 0.5)*n_in/n_out)])
            continue
        for j in range(int(at - width*stretch/2) - 3, int(at + width*stretch/2) + 4):
            weight = float(function(np.array((at - j)/stretch)))
            k = j
            if border == "clamp": k = min(max(j, 0), n_in - 1)
            else:
                while not 0 <= k < n_in: k = -1 - k if k < 0 else 2*n_in - 1 - k
            total, weight_sum = total + weight*values[k], weight_sum + weight
        result.append(total/weight_sum)
    return np.array(result)

@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("border", ["clamp", "mirror"])
@pytest.mark.parametrize("antialias", [True, False])
def test_every_matrix_says_what_the_definition_says(kernel, border, antialias):
    for n_in, n_out in ((1, 1), (1, 5), (5, 1), (2, 9), (9, 2), (8, 32), (32, 8), (13, 12), (12, 13), (3, 40), (40, 3), (7, 7)):
        values = rng.random(n_in)
        matrix = resize_matrix(n_in, n_out, kernel, antialias, border)
        assert matrix.shape == (n_out, n_in)
        np.testing.assert_allclose(matrix @ values, slow_axis(values, n_out, kernel, antialias, border), atol=1e-12)
        np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)

def test_the_cubic_is_keys_with_a_of_minus_one_half():
    cubic, _ = KERNELS["bicubic"]
    np.testing.assert_allclose(cubic(np.array([0, 0.5, 1, 1.5, 2, -0.5, 3])), [1, 0.5625, 0, -0.0625, 0, 0.5625, 0], atol=1e-15)

def test_same_size_is_the_same_picture():
    for kernel in KERNELS:
        for border in ("clamp", "mirror"): np.testing.assert_array_equal(resize(PICTURE, 23, 31, kernel, border=border), PICTURE)

@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("border", ["clamp", "mirror"])
def test_any_size_down_to_one_pixel(kernel, border):
    for size in ((1, 1), (1, 31), (23, 1), (2, 2), (5, 3), (23, 31)):
        flat = np.full((*size, 3), (7, 100, 251), np.uint8)
        for target in ((1, 1), (1, 9), (9, 1), (4, 6), (50, 70)):
            np.testing.assert_array_equal(resize(flat, *target, kernel, border=border), np.full((*target, 3), (7, 100, 251)))


# What goes in and out

@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_the_dtype_stays_and_all_agree(dtype):
    top, slack = dict(uint8=(255, 1.2/255), uint16=(65535, 1.2/65535), float32=(1, 1e-6), float64=(1, 1e-15))[np.dtype(dtype).name]
    muted = PICTURE//2 + 64 # nothing to clamp between the passes
    pixels = (muted/255).astype(dtype) if top == 1 else (muted.astype(np.int64)*top//255).astype(dtype)
    for target in ((50, 40), (7, 9)):
        result = resize(pixels, *target)
        assert result.dtype == dtype and np.abs(result/top - resize(muted/255, *target)).max() <= slack

def test_rounding_after_each_pass_or_only_once():
    exact = resize(PICTURE.astype(float), 9, 11)
    once = resize(PICTURE, 9, 11, rounded=False)
    np.testing.assert_array_equal(once, np.floor(exact + 0.5).clip(0, 255))
    twice = resize(PICTURE, 9, 11)
    tall = np.floor(resize_matrix(23, 9) @ PICTURE.reshape(23, -1).astype(float) + 0.5).clip(0, 255).reshape(9, 31, 3)
    wide = np.floor(np.einsum("ij,hjc->hic", resize_matrix(31, 11).toarray(), tall) + 0.5).clip(0, 255)
    np.testing.assert_array_equal(twice, wide)
    assert (twice != once).any()

def test_height_comes_first():
    turned = resize(PICTURE.swapaxes(0, 1), 11, 9).swapaxes(0, 1)
    assert (turned != resize(PICTURE, 9, 11)).any()

def test_overshoot_is_clamped_in_whole_levels_and_kept_in_floats():
    edge = np.zeros((8, 8, 1), np.uint8)
    edge[:, 4:] = 255
    assert set(np.unique(enlarge(edge)[:, :2])) == {0} and enlarge(edge).max() == 255
    floats = enlarge(edge/255)
    assert floats.min() < -0.02 and floats.max() > 1.02

def test_grey_planes_and_any_number_of_channels():
    for channels in (1, 2, 4):
        pixels = rng.integers(0, 256, (12, 10, channels), dtype=np.uint8)
        whole = resize(pixels, 5, 7)
        for c in range(channels): np.testing.assert_array_equal(resize(pixels[..., c], 5, 7), whole[..., c])

def test_views_are_read_as_they_look_and_nothing_is_changed():
    before = PICTURE.copy()
    np.testing.assert_array_equal(resize(PICTURE[::-1, ::2], 9, 9), resize(PICTURE[::-1, ::2].copy(), 9, 9))
    np.testing.assert_array_equal(PICTURE, before)
    frozen = PICTURE.copy()
    frozen.flags.writeable = False
    result = enlarge(frozen)
    assert result.flags.writeable and result.flags.c_contiguous

def test_wrong_arguments_are_told():
    with pytest.raises(ValueError, match="both must be 1 or more"): resize(PICTURE, 0, 4)
    with pytest.raises(ValueError, match="both must be 1 or more"): resize(PICTURE[:0], 4, 4)
    with pytest.raises(ValueError, match="unknown kernel 'cubic': choose one of bicubic"): resize(PICTURE, 4, 4, "cubic")
    with pytest.raises(ValueError, match="choose clamp or mirror"): resize(PICTURE, 4, 4, border="zero")
    with pytest.raises(TypeError, match="pixels are int64, expected uint8"): resize(PICTURE.astype(np.int64), 4, 4)
    with pytest.raises(TypeError, match="bool"): resize(PICTURE > 9, 4, 4)
    with pytest.raises(ValueError, match="expected .H,W."): resize(PICTURE[None], 4, 4)


# Down, up, back

def test_shrink_wants_whole_lr_pixels():
    with pytest.raises(ValueError, match="31x23 does not divide by 4: cut it first"): shrink(PICTURE)
    assert crop_to_multiple(PICTURE).shape == (20, 28, 3) and crop_to_multiple(PICTURE, 1).shape == PICTURE.shape
    np.testing.assert_array_equal(crop_to_multiple(PICTURE, 5), PICTURE[:20, :30])
    assert shrink(crop_to_multiple(PICTURE, 3), 3).shape == (7, 10, 3)

def test_enlarge_mirrors_and_shrink_clamps():
    np.testing.assert_array_equal(enlarge(PICTURE), resize(PICTURE, 92, 124, border="mirror"))
    high = crop_to_multiple(PICTURE)
    np.testing.assert_array_equal(shrink(high), resize(high, 5, 7, border="clamp"))
    assert (shrink(high) != resize(high, 5, 7, border="mirror")).any()

def test_back_projection_equals_the_plain_loop():
    low = rng.random((9, 7, 3))
    sr = enlarge(low)
    slow = sr.copy()
    for _ in range(6): slow = slow + enlarge(low - shrink(slow), kernel="lanczos")
    np.testing.assert_allclose(back_project(low, sr, n_iters=6), slow, atol=1e-12)
    np.testing.assert_array_equal(back_project(low, sr, n_iters=0), sr)

@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_back_projection_comes_near_the_lr_picture(dtype):
    high = enlarge(PICTURE) if dtype == np.uint8 else enlarge(PICTURE).astype(dtype)
    low = shrink(high)
    sr = enlarge(low, kernel="bilinear")
    better = back_project(low, sr)
    assert better.dtype == dtype and better.shape == sr.shape
    before, after = (np.abs(shrink(x).astype(float) - low).mean() for x in (sr, better))
    assert after < before/3

def test_back_projection_of_a_single_pixel_and_of_strangers():
    low = np.full((1, 1, 3), 80, np.uint8)
    np.testing.assert_array_equal(back_project(low, np.full((4, 4, 3), 60, np.uint8)), np.full((4, 4, 3), 80))
    for sr in (enlarge(PICTURE)[:-1], enlarge(PICTURE)[..., :1], enlarge(PICTURE)/255, resize(PICTURE, 92, 62)):
        with pytest.raises(ValueError, match="another enlargement"): back_project(PICTURE, sr)
