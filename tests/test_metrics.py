"What is no reading matter about the scores: scikit-image's numbers to the last digit on every shape, known values, and what is refused."
import numpy as np
import pytest

from paintsr_nb import metrics
from paintsr_nb.metrics import PROTOCOLS, psnr, ssim, ssim_map
from paintsr_nb.picture import read_rgb8
from paintsr_nb.resize import enlarge

rng = np.random.default_rng(0)
SHAPES = (19, 19), (20, 57), (57, 20), (64, 64), (19, 3000), (700, 33)


def pair(height, width):
    "A smooth picture with flat parts and full black and white, and a noisy copy."
    y, x = np.mgrid[:height, :width]
    high = np.stack([127 + 150*np.sin(x/9 + y/17), 127 + 150*np.cos(y/7), 255.0*(x//16 % 2)], -1).clip(0, 255)
    high[:height//3, :width//3] = 255
    high[-(height//3):, -(width//3):] = 0
    return (high + rng.normal(0, 12, high.shape)*(x > width//4)[..., None]).clip(0, 255).astype(np.uint8), high.astype(np.uint8)


def reference(sr, high, protocol, full=False):
    from skimage.color import rgb2ycbcr
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    if protocol == "paper_y": sr, high = (rgb2ycbcr(pixels)[4:-4, 4:-4, 0] for pixels in (sr, high))
    window = {} if protocol == "skimage_default" else dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    channel = None if protocol == "paper_y" else -1
    value = structural_similarity(sr, high, data_range=255, channel_axis=channel, full=full, **window)
    return value if full else (value, peak_signal_noise_ratio(high, sr, data_range=255))


# Against scikit-image

@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("shape", SHAPES)
def test_scikit_image_gives_the_same_numbers(protocol, shape):
    pytest.importorskip("skimage")
    sr, high = pair(*shape)
    expected = reference(sr, high, protocol)
    assert ssim(sr, high, protocol) == pytest.approx(expected[0], abs=1e-12)
    assert psnr(sr, high, protocol) == pytest.approx(expected[1], abs=1e-10)

@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scikit_image_draws_the_same_map(protocol):
    pytest.importorskip("skimage")
    sr, high = pair(60, 44)
    _, full = reference(sr, high, protocol, full=True)
    inner = PROTOCOLS[protocol].size//2
    full = full if protocol == "paper_y" else full.mean(-1)
    np.testing.assert_allclose(ssim_map(sr, high, protocol), full[inner:-inner, inner:-inner], atol=1e-10)

@pytest.mark.shared
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scikit_image_gives_the_same_numbers_on_a_real_picture(data, protocol):
    pytest.importorskip("skimage")
    high, low = (read_rgb8(data/"bench"/"Set14"/kind/"img_003.png") for kind in ("HR", "LR")) # the grey one
    sr = enlarge(low)
    np.testing.assert_allclose((ssim(sr, high, protocol), psnr(sr, high, protocol)), reference(sr, high, protocol), atol=1e-9)

@pytest.mark.shared
def test_bicubic_on_set5_scores_as_in_the_papers(data):
    names = sorted(path.name for path in (data/"bench"/"Set5"/"HR").iterdir())
    scores = [ssim(enlarge(read_rgb8(data/"bench"/"Set5"/"LR"/name)), read_rgb8(data/"bench"/"Set5"/"HR"/name), "paper_y") for name in names]
    assert np.mean(scores) == pytest.approx(0.811, abs=0.001)


# Word by word

@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_window_by_the_formula(protocol):
    rules = PROTOCOLS[protocol]
    side = 2*rules.margin + 1
    sr, high = pair(side, side)
    c, k = rules.crop, rules.size
    channels = [pixels[c:side - c, c:side - c].astype(float) for pixels in (sr, high)]
    if rules.luma: channels = [(16 + (65.481*p[..., 0] + 128.553*p[..., 1] + 24.966*p[..., 2])/255)[..., None] for p in channels]
    x = np.arange(k) - k//2
    one = np.exp(-x**2/(2*1.5**2)) if k == 11 else np.ones(k)
    window = np.outer(one, one)[..., None]/one.sum()**2
    a, b = channels
    mean_a, mean_b = (window*a).sum((0, 1)), (window*b).sum((0, 1))
    more = 49/48 if protocol == "skimage_default" else 1
    var_a, var_b, cov = (more*(window*u*v).sum((0, 1)) for u, v in ((a - mean_a, a - mean_a), (b - mean_b, b - mean_b), (a - mean_a, b - mean_b)))
    c1, c2 = 2.55**2, 7.65**2
    expected = (2*mean_a*mean_b + c1)*(2*cov + c2)/((mean_a**2 + mean_b**2 + c1)*(var_a + var_b + c2))
    assert ssim(sr, high, protocol) == pytest.approx(expected.mean(), abs=1e-12)

def test_the_protocols_are_what_the_papers_and_the_library_say():
    wang, library, paper = (PROTOCOLS[name] for name in ("wang_rgb", "skimage_default", "paper_y"))
    assert (wang.size, wang.sigma, wang.sample_covariance, wang.luma, wang.crop, wang.margin) == (11, 1.5, False, False, 0, 5)
    assert (library.size, library.sigma, library.sample_covariance, library.luma, library.crop, library.margin) == (7, None, True, False, 0, 3)
    assert (paper.size, paper.sigma, paper.sample_covariance, paper.luma, paper.crop, paper.margin) == (11, 1.5, False, True, 4, 9)
    for rules in PROTOCOLS.values():
        assert rules.window.sum() == pytest.approx(1) and len(rules.window) == rules.size and (rules.window == rules.window[::-1]).all()

def test_psnr_of_known_errors():
    grey = np.full((40, 40, 3), 100, np.uint8)
    one_off = grey.copy()
    one_off[20, 20, 1] = 103
    assert psnr(one_off, grey) == pytest.approx(10*np.log10(255**2*40*40*3/9))
    assert psnr(one_off, grey, "paper_y") == pytest.approx(10*np.log10(255**2*32*32/(128.553/255*3)**2))
    assert psnr(np.full_like(grey, 255), np.zeros_like(grey)) == 0
    for protocol in PROTOCOLS: assert psnr(grey, grey, protocol) == float("inf")

def test_brightness_is_not_rounded():
    grey = np.full((40, 40, 3), 100, np.uint8)
    bluer = grey.copy()
    bluer[..., 2] += 1 # 0.098 levels of Y, lost where Y is rounded
    assert 60 < psnr(bluer, grey, "paper_y") < 70

def test_paper_y_does_not_see_its_border():
    sr, high = pair(48, 48)
    ruined = sr.copy()
    ruined[:4], ruined[-4:], ruined[:, :4], ruined[:, -4:] = 0, 0, 255, 255
    assert (ssim(ruined, high, "paper_y"), psnr(ruined, high, "paper_y")) == (ssim(sr, high, "paper_y"), psnr(sr, high, "paper_y"))
    ruined[4, 20] ^= 255
    assert psnr(ruined, high, "paper_y") != psnr(sr, high, "paper_y")


# Properties

@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_equal_is_one_order_does_not_matter_and_worse_is_less(protocol):
    sr, high = pair(50, 70)
    worse = (sr.astype(int) + rng.integers(-40, 40, sr.shape)).clip(0, 255).astype(np.uint8)
    assert ssim(high, high, protocol) == 1 and ssim_map(high, high, protocol).min() == 1
    assert ssim(sr, high, protocol) == ssim(high, sr, protocol) and psnr(sr, high, protocol) == psnr(high, sr, protocol)
    assert ssim(worse, high, protocol) < ssim(sr, high, protocol) < 1 and psnr(worse, high, protocol) < psnr(sr, high, protocol)

@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_strips_leave_no_seam(protocol, monkeypatch):
    sr, high = pair(45, 2100)
    assert len(list(metrics._strips(sr, high, PROTOCOLS[protocol]))) > 4
    several = ssim_map(sr, high, protocol)
    def one_strip(sr, high, rules, overlap=0):
        c = rules.crop
        yield tuple(metrics._channels(p[c:len(p) - c, c:p.shape[1] - c], rules) for p in (sr, high))
    monkeypatch.setattr(metrics, "_strips", one_strip)
    whole = ssim_map(sr, high, protocol)
    np.testing.assert_allclose(several, whole, atol=1e-13)

def test_pictures_are_left_as_they_are_and_views_will_do():
    sr, high = pair(40, 40)
    before = sr.copy(), high.copy()
    values = ssim(sr, high), psnr(sr, high)
    np.testing.assert_array_equal(sr, before[0])
    np.testing.assert_array_equal(high, before[1])
    assert (ssim(sr[::-1], high[::-1]), psnr(sr[::-1, ::-1], high[::-1, ::-1])) == pytest.approx(values, abs=1e-12)
    assert isinstance(values[0], float) and isinstance(values[1], float)

def test_memory_stays_far_below_one_float_copy():
    import tracemalloc
    sr, high = (rng.integers(0, 256, (1200, 1200, 3), dtype=np.uint8) for _ in range(2))
    tracemalloc.start()
    for protocol in PROTOCOLS: psnr(sr, high, protocol)
    ssim(sr, high, "paper_y")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < sr.size*8/3


# What is refused

@pytest.mark.parametrize("score", [ssim, psnr, ssim_map])
def test_wrong_arguments_are_told(score):
    sr, high = pair(40, 50)
    for wrong in (sr/255, sr.astype(np.float32), sr.astype(np.uint16), sr > 9):
        with pytest.raises(TypeError, match=f"sr is {wrong.dtype}, expected uint8.*to_uint8"): score(wrong, high)
        with pytest.raises(TypeError, match=f"high is {wrong.dtype}"): score(sr, wrong)
    with pytest.raises(ValueError, match="sr is 50x39 and high is 50x40.*belong together"): score(sr[:-1], high)
    for wrong in (sr[..., 0], sr[..., :1], np.dstack([sr, sr[..., 0]])):
        with pytest.raises(ValueError, match=r"expected \(H,W,3\)"): score(wrong, wrong)
    with pytest.raises(ValueError, match="unknown protocol 'y': choose one of wang_rgb, skimage_default, paper_y"): score(sr, high, "y")

@pytest.mark.parametrize("protocol, least", [("wang_rgb", 11), ("skimage_default", 7), ("paper_y", 19)])
def test_the_smallest_picture(protocol, least):
    sr, high = pair(19, 19)
    assert ssim_map(sr[:least, :least], high[:least, :least], protocol).shape == (1, 1)
    for cut in ((slice(least - 1),), (slice(None), slice(least - 1))):
        with pytest.raises(ValueError, match=f"is too small, {protocol} needs {least} pixels per side"): ssim(sr[cut], high[cut], protocol)

def test_psnr_needs_no_window_but_a_pixel():
    sr, high = pair(19, 19)
    assert psnr(sr[:1, :1], high[:1, :1]) >= 0 and psnr(sr[:9, :9], high[:9, :9], "paper_y") >= 0
    with pytest.raises(ValueError, match="needs 9 pixels"): psnr(sr[:8], high[:8], "paper_y")
    with pytest.raises(ValueError, match="needs 1 pixels"): psnr(sr[:0], high[:0])
