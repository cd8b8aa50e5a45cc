"Losses against references written another way, and the sum of them as a learner uses it."
import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve
from skimage.metrics import structural_similarity

from paintsr_nb.losses import fidelity
from paintsr_nb.losses.fidelity import SRLoss, charbonnier, direction_loss, directions, l1, ms_ssim_loss, mse, ssim_loss
from paintsr_nb.losses.perceptual import PerceptualLoss


def pair(height=40, width=33, seed=0, strength=60):
    rng = np.random.default_rng(seed)
    high = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return np.clip(high.astype(int) + rng.integers(-strength, strength, high.shape), 0, 255).astype(np.uint8), high


def batch(*pictures): return torch.from_numpy(np.stack([pixels.transpose(2, 0, 1) for pixels in pictures])).float()/255


def two_pairs(height=40, width=33):
    (sr_a, high_a), (sr_b, high_b) = pair(height, width), pair(height, width, 1, strength=20)
    return batch(sr_a, sr_b), batch(high_a, high_b)


# --- the single terms

@pytest.mark.parametrize("loss,each", [(l1, np.abs), (mse, np.square), (charbonnier, lambda difference: np.sqrt(difference**2 + 1e-6))],
                         ids=["l1", "mse", "charbonnier"])
def test_pixel_losses(loss, each):
    sr, high = two_pairs()
    wanted = each(sr.double().numpy() - high.double().numpy()).mean((1, 2, 3))
    np.testing.assert_allclose(loss(sr, high, reduction="none").numpy(), wanted, rtol=1e-5)
    assert loss(sr, high).item() == pytest.approx(wanted.mean(), rel=1e-5)


def test_ssim_is_scikit_images():
    sr, high = pair()
    wanted = structural_similarity(sr, high, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1)
    assert 1 - ssim_loss(batch(sr), batch(high)).item() == pytest.approx(wanted, abs=1e-5)


def test_ssim_gradient_is_the_numerical_one():
    torch.manual_seed(0)
    sr, high = torch.rand(1, 1, 12, 12, requires_grad=True), torch.rand(1, 1, 12, 12)
    ssim_loss(sr, high).backward()
    step = torch.zeros_like(high)
    step[0, 0, 5, 6] = 1e-2
    numerical = (ssim_loss(sr.detach() + step, high) - ssim_loss(sr.detach() - step, high))/2e-2
    assert sr.grad[0, 0, 5, 6].item() == pytest.approx(numerical.item(), rel=0.05)


def reference_ms_ssim(sr, high):
    "Wang et al. 2003 in double precision, one channel after another: two-dimensional windows, SSIM itself from scikit-image."
    taps = np.exp(-np.arange(-5, 6)**2/(2*1.5**2))
    window = np.outer(taps, taps)/taps.sum()**2
    blur = lambda picture: fftconvolve(picture, window, mode="valid")
    values = []
    for channel in range(3):
        a, b = (side[..., channel].astype(float)/255 for side in (sr, high))
        product = 1.0
        for exponent in (0.0448, 0.2856, 0.3001, 0.2363):
            cov = blur(a*b) - blur(a)*blur(b)
            variances = blur(a*a) - blur(a)**2 + blur(b*b) - blur(b)**2
            product *= max(np.mean((2*cov + 0.03**2)/(variances + 0.03**2)), 0)**exponent
            a, b = (side[:side.shape[0]//2*2, :side.shape[1]//2*2] for side in (a, b))
            a, b = ((side[::2, ::2] + side[1::2, ::2] + side[::2, 1::2] + side[1::2, 1::2])/4 for side in (a, b))
        last = structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1)
        values.append(product*max(last, 0)**0.1333)
    return np.mean(values)


@pytest.mark.parametrize("size", [(176, 176), (200, 183), (191, 250)])
def test_ms_ssim_is_the_papers(size):
    sr, high = pair(*size)
    smooth = np.clip(high*0.5 + 64 + 40*np.sin(np.arange(size[1])/9)[:, None], 0, 255).astype(np.uint8)
    for first in (sr, smooth, high//3):   # the last differs in luminance most
        assert 1 - ms_ssim_loss(batch(first), batch(high)).item() == pytest.approx(reference_ms_ssim(first, high), abs=2e-5)


def test_ms_ssim_gradient():
    "Numerically right where pictures agree, and finite where they contradict each other and the power has no slope."
    sr, high = two_pairs(176, 180)
    sr.requires_grad_()
    ms_ssim_loss(sr, high).backward()
    direction = sr.grad/sr.grad.norm()
    with torch.no_grad(): numerical = (ms_ssim_loss(sr + 0.05*direction, high) - ms_ssim_loss(sr - 0.05*direction, high))/0.1
    assert sr.grad.norm().item() == pytest.approx(numerical.item(), rel=0.05)
    against = (1 - high).requires_grad_()
    value = ms_ssim_loss(against, high)
    value.backward()
    assert value.item() == 1 and torch.isfinite(against.grad).all()


@pytest.mark.parametrize("size", [(175, 300), (300, 175), (128, 128)])
def test_ms_ssim_needs_176_pixels(size):
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]}.*176 px.*low_size=44"): ms_ssim_loss(torch.rand(1, 3, *size), torch.rand(1, 3, *size))


@pytest.mark.parametrize("angle", [0, 30, 45, 60, 90, 120, 135])
def test_a_wave_shows_at_its_angle_and_octave(angle):
    "Noise is alike in all directions; a wave of 0.2 and one of 0.4 cycles per pixel stand out where they point."
    torch.manual_seed(0)
    noise = 0.5 + 0.05*torch.randn(1, 1, 512, 512).expand(-1, 3, -1, -1)
    assert directions(noise).min() > 0.9 and directions(noise).max() < 1.1
    across, down = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    for octave, cycles in enumerate((0.2, 0.4)):
        wave = torch.sin(2*torch.pi*cycles*(torch.arange(512)*across + torch.arange(512)[:, None]*down)).float()
        spread = directions(noise + 0.05*wave)[0]
        assert spread[octave].argmax() == angle//15 and spread[octave].max() > 3 and spread[1 - octave].max() < 1.2


def test_direction_gradient():
    sr, high = two_pairs(128, 128)
    sr.requires_grad_()
    direction_loss(sr, high).backward()
    step = sr.grad/sr.grad.norm()
    with torch.no_grad(): numerical = (direction_loss(sr + 2e-3*step, high) - direction_loss(sr - 2e-3*step, high))/4e-3
    assert sr.grad.norm().item() == pytest.approx(numerical.item(), rel=0.05)


def test_descending_the_direction_loss_takes_stripes_away():
    high, rows = two_pairs(128, 128)[1], torch.arange(128)
    sr = (high + 0.03*torch.sin(1.2*(rows[:, None] + rows)/2**0.5)).requires_grad_()
    excess = lambda: (directions(sr)/directions(high))[0, 0, 3].item()
    before, adam = excess(), torch.optim.Adam([sr], 1e-3)
    for _ in range(40):
        adam.zero_grad()
        direction_loss(sr, high).backward()
        adam.step()
    assert before > 1.3 and excess() < 1.05


def test_flat_pictures_have_no_direction_and_a_finite_gradient():
    flat = torch.full((1, 3, 64, 64), 0.5, requires_grad=True)
    value = direction_loss(flat, torch.full((1, 3, 64, 64), 0.2))
    value.backward()
    assert value.item() == 0 and torch.isfinite(flat.grad).all()


@pytest.mark.parametrize("loss", [ssim_loss, ms_ssim_loss, direction_loss])
def test_similarity_is_computed_in_float32_and_a_picture_at_a_time(loss):
    sr, high = two_pairs(176, 176)
    wanted = [loss(sr[index:index + 1], high[index:index + 1]).item() for index in range(2)]
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(sr, high, reduction="none").tolist() == pytest.approx(wanted, abs=1e-6)
        assert loss(sr.bfloat16(), high.bfloat16()).dtype == torch.float32
    assert loss(sr, high).item() == pytest.approx(np.mean(wanted), abs=1e-6)


def test_windows_kept_from_inference_serve_training():
    fidelity._window_matrix.cache_clear()
    sr, high = two_pairs()
    with torch.inference_mode(): ssim_loss(sr, high)
    sr.requires_grad_()
    ssim_loss(sr, high).backward()
    assert sr.grad.abs().sum() > 0


# --- the sum

def test_parts_sum_and_gradient_reaches_the_picture():
    sr, high = (batch(side) for side in pair(176, 176))
    sr.requires_grad_()
    loss = SRLoss(pixel=0.5, ssim=0.3, ms_ssim=0.2, perceptual=0.1, pixel_kind="charbonnier", features=PerceptualLoss("vgg16", dict(conv2_2=1.0)))
    total = loss(sr, high)
    total.backward()
    assert total.item() == pytest.approx(sum(float(value)*weight for value, weight in loss.parts.values()), rel=1e-6)
    assert {name: weight for name, (_, weight) in loss.parts.items()} == loss.weights == dict(charbonnier=0.5, ssim_loss=0.3, ms_ssim_loss=0.2, perceptual=0.1)
    assert not any(value.requires_grad for value, _ in loss.parts.values()) and sr.grad.abs().sum() > 0


@pytest.mark.parametrize("kind,loss", [("l1", l1), ("charbonnier", charbonnier), ("mse", mse)])
def test_pixel_kinds(kind, loss):
    sr, high = two_pairs()
    whole = SRLoss(2.0, pixel_kind=kind)
    assert whole(sr, high).item() == pytest.approx(2*loss(sr, high).item()) and set(whole.parts) == {kind}


def test_each_term_is_the_function_of_its_name():
    sr, high = two_pairs(176, 176)
    for name, function in dict(ssim=ssim_loss, ms_ssim=ms_ssim_loss, direction=direction_loss).items():
        loss = SRLoss(pixel=0, **{name: 0.7})
        assert loss(sr, high).item() == pytest.approx(0.7*function(sr, high).item()) and loss.weights == {f"{name}_loss": 0.7}
    features = PerceptualLoss("vgg16", dict(conv1_2=0.5, relu2_2=2.0), "mse")
    loss = SRLoss(pixel=0, perceptual=0.7, features=features)
    assert loss(sr, high).item() == pytest.approx(0.7*features(sr, high).item())


def test_one_value_a_picture_leaves_the_parts_alone():
    sr, high = two_pairs(176, 176)
    loss = SRLoss(1.0, ssim=0.5, ms_ssim=0.5, perceptual=0.01, features=PerceptualLoss("vgg16", dict(conv1_2=1.0)))
    wanted = [loss(sr[index:index + 1], high[index:index + 1]).item() for index in range(2)]
    whole, parts = loss(sr, high).item(), loss.parts
    assert loss(sr, high, reduction="none").tolist() == pytest.approx(wanted, rel=1e-5) and loss.parts is parts
    loss.reduction = "none"   # as fastai's get_preds(with_loss=True) does
    assert loss(sr, high).shape == (2,) and loss.parts is parts
    assert loss(sr, high, reduction="mean").item() == pytest.approx(whole) == pytest.approx(np.mean(wanted), rel=1e-5)
    with pytest.raises(ValueError, match="choose 'mean' or 'none'"): loss(sr, high, reduction="sum")


def test_fastai_asks_for_one_value_a_picture():
    from fastai.callback.progress import ProgressCallback
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    sr, high = two_pairs()
    items = list(zip([*sr, *high], [*high, *high]))
    dls = DataLoaders(*(DataLoader(items, bs=2) for _ in range(2)), device=torch.device("cpu"))
    learn = Learner(dls, torch.nn.Conv2d(3, 3, 1), loss_func=SRLoss(1.0, ssim=0.1))
    learn.remove_cbs(ProgressCallback)
    predicted, target, each = learn.get_preds(with_loss=True)
    assert each.shape == (4,) and learn.loss_func.reduction == "mean"
    torch.testing.assert_close(each, SRLoss(1.0, ssim=0.1)(predicted, target, reduction="none"))


def test_under_autocast_pixels_stay_exact_and_features_do_not():
    sr, high = two_pairs()
    loss = SRLoss(1.0, ssim=0.5, perceptual=0.01, features=PerceptualLoss("vgg16", dict(conv2_2=1.0)))
    loss(sr, high)
    exact = {name: value.item() for name, (value, _) in loss.parts.items()}
    with torch.autocast("cpu", torch.bfloat16): total = loss(sr, high)
    quick = {name: value.item() for name, (value, _) in loss.parts.items()}
    assert total.dtype == torch.float32 and quick["l1"] == exact["l1"] and quick["ssim_loss"] == exact["ssim_loss"]
    assert quick["perceptual"] != exact["perceptual"] and quick["perceptual"] == pytest.approx(exact["perceptual"], rel=0.05)


def test_what_is_float32_is_not_copied(monkeypatch):
    sr, high = two_pairs()
    loss, seen = SRLoss(), []
    loss.terms["l1"] = lambda sr, high, reduction: seen.append((sr.data_ptr(), high.data_ptr())) or l1(sr, high, reduction)
    loss(sr, high)
    assert seen == [(sr.data_ptr(), high.data_ptr())]


@pytest.mark.parametrize("weights", [dict(pixel=0), dict(pixel=-1), dict(ssim=float("nan")), dict(ms_ssim=float("inf")), dict(perceptual=-0.1)])
def test_impossible_weights(weights):
    with pytest.raises(ValueError, match="none may be negative, one must be above 0"): SRLoss(**weights)


def test_wrong_names_and_sizes():
    with pytest.raises(ValueError, match="choose 'l1', 'charbonnier' or 'mse'"): SRLoss(pixel_kind="l2")
    with pytest.raises(ValueError, match="pass features=PerceptualLoss"): SRLoss(perceptual=1)
    with pytest.raises(ValueError, match="check the net's scale"): SRLoss()(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 32, 32))
