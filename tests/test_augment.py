"Augmentation: aligned, the same by address, the same after a resume and with workers; and the sharpened target against SciPy's blur."
import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from paintsr_nb.core import random_at
from paintsr_nb.data.augment import AUGMENTATIONS, augment_crop, cut_blur, is_flat, mix_up, permute_rgb
from paintsr_nb.data.degrade import DEGRADATIONS
from paintsr_nb.data.patches import sr_dls
from paintsr_nb.data.store import prepare
from paintsr_nb.losses.fidelity import SRLoss, sharpen
from paintsr_nb.picture import write_picture
from paintsr_nb.resize import shrink
from paintsr_nb.samples import samples

SCAN = DEGRADATIONS["scan"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    "Three pictures whose lower half is a bare wall."
    folder = tmp_path_factory.mktemp("augment")
    for sample in samples()[:3]:
        high = np.ascontiguousarray(sample.high[800:1184, 800:1184])
        high[192:] = 190
        write_picture(folder/"high"/f"{sample.id}.png", high)
    return prepare(folder/"store", high=folder/"high", valid=0.34, num_workers=1).store


def loader(store, augment, start=0, low_size=16, **kwargs):
    dls = sr_dls(store, low_size=low_size, bs=4, n_iters=3, valid_size=16, device="cpu", augment=augment, **kwargs)
    dls.train.start = start
    return dls.train


def batches(*args, **kwargs): return [(low.clone(), high.clone()) for low, high in loader(*args, **kwargs)]


def same(one, other):
    assert len(one) == len(other)
    return all(torch.equal(a, b) for pair, twin in zip(one, other) for a, b in zip(pair, twin))


def pair(seed=0, size=20):
    high = random_at(seed).integers(0, 256, (4*size, 4*size, 3)).astype(np.uint8)
    return 255 - shrink(high), high


@pytest.mark.parametrize("augment", [*AUGMENTATIONS, ",".join(AUGMENTATIONS)])
def test_resumed_or_cut_by_workers_the_crops_are_the_same(store, augment):
    straight = batches(store, augment, degradation=SCAN)
    assert same(straight[2:], batches(store, augment, start=2, degradation=SCAN))
    if augment.count(","): assert same(straight, batches(store, augment, degradation=SCAN, num_workers=2))
    assert not same(straight, batches(store, augment, degradation=SCAN, seed=43))


@pytest.mark.parametrize("augment", ["cutblur", "mixup", "rgb"])
def test_an_option_changes_crops_and_leaves_them_where_they_were(store, augment):
    plain, changed = loader(store, "", degradation=SCAN), loader(store, augment, degradation=SCAN)
    assert [plain.crop_at(0, index) for index in range(12)] == [changed.crop_at(0, index) for index in range(12)]
    lows, highs = zip(*batches(store, augment, degradation=SCAN))
    was_low, was_high = zip(*batches(store, "", degradation=SCAN))
    assert not all(map(torch.equal, lows, was_low))
    assert all(map(torch.equal, highs, was_high)) == (augment == "cutblur")


def test_two_processes_share_what_one_would_have(store):
    whole = list(sr_dls(store, low_size=16, bs=4, n_iters=2, valid_size=16, device="cpu", augment="mixup,rgb").train)
    halves = [list(sr_dls(store, low_size=16, bs=2, n_iters=2, valid_size=16, device="cpu", augment="mixup,rgb", rank=rank, world=2).train) for rank in (0, 1)]
    for (_, both), (_, first), (_, second) in zip(whole, *halves, strict=True): assert torch.equal(both, torch.cat([first, second]))


def test_validation_is_not_augmented(store):
    kwargs = dict(low_size=16, bs=4, n_iters=1, valid_size=16, device="cpu")
    for one, other in zip(sr_dls(store, augment="mixup,rgb", **kwargs).valid, sr_dls(store, **kwargs).valid, strict=True): assert same([one], [other])


def test_cut_blur_replaces_a_part_of_07_or_the_rest():
    low, high = pair()
    sharp, kinds = shrink(high), set()
    for seed in range(40):
        made, untouched = cut_blur(low, high, random_at(seed))
        replaced = (made == sharp).all(2)
        assert untouched is high and (made[~replaced] == low[~replaced]).all()
        inside = replaced[10, 10]   # a part of 14 pixels of 20 always covers the middle
        assert 12 <= np.sqrt((replaced if inside else ~replaced).sum()) <= 15
        kinds.add(bool(inside))
    assert kinds == {True, False}


@pytest.mark.parametrize("seed", range(5))
def test_mixed_sides_agree_on_the_proportion(seed):
    low, high = (np.full((size, size, 3), 200, np.uint8) for size in (8, 32))
    other = tuple(np.full((size, size, 3), 40, np.uint8) for size in (8, 32))
    mixed_low, mixed_high = mix_up(low, high, random_at(seed), other)
    assert 40 < mixed_low[0, 0, 0] < 200 and (mixed_low == mixed_low[0, 0, 0]).all() and (mixed_high == mixed_low[0, 0, 0]).all()


def test_colours_change_places_on_both_sides():
    low, high = pair()
    orders = set()
    for seed in range(40):
        made = permute_rgb(low, high, random_at(seed))
        order = tuple(next(index for index in range(3) if (made[0][..., place] == low[..., index]).all()) for place in range(3))
        assert (made[1] == high[..., order]).all()
        orders.add(order)
    assert len(orders) == 6


def test_each_crop_gets_one_of_the_named():
    low, high = pair()
    asked = []
    for seed in range(60): augment_crop(low, high, ("rgb", "mixup", "no_flat"), random_at(seed), lambda: asked.append(1) or (low, high))
    assert 15 < len(asked) < 45


def test_flat_crops_are_drawn_again(store):
    def flat(augment):
        train = loader(store, augment, low_size=24)
        cut = lambda crop: train.dataset[crop.picture][0][crop.top:crop.top + 24, crop.left:crop.left + 24]
        return [is_flat(np.asarray(cut(train.crop_at(0, index)))) for index in range(100)]
    before, after = flat(""), flat("no_flat")
    assert sum(before) >= 10 and sum(after) <= 1


def test_a_bare_wall_does_not_stop_the_loader(tmp_path):
    for name in "ab": write_picture(tmp_path/"high"/f"{name}.png", np.full((96, 96, 3), 100 + ord(name), np.uint8))
    bare = prepare(tmp_path/"store", high=tmp_path/"high", valid=0.5, num_workers=1).store
    assert len(batches(bare, "no_flat")) == 3


def test_the_unsharp_mask_is_the_published_one():
    high = torch.from_numpy(samples("cat")[0].high[400:480, 400:500].copy()).permute(2, 0, 1)[None]/255
    taps = np.exp(-(np.arange(51) - 25)**2/(2*(0.3*((51 - 1)*0.5 - 1) + 0.8)**2))   # OpenCV's width for a kernel of 51
    blur = lambda maps: correlate1d(correlate1d(maps, taps/taps.sum(), axis=0, mode="mirror"), taps/taps.sum(), axis=1, mode="mirror")
    picture = high[0].permute(1, 2, 0).double().numpy()
    difference = picture - blur(picture)
    where = blur((np.abs(difference)*255 > 10).astype(float))
    wanted = where*np.clip(picture + 0.5*difference, 0, 1) + (1 - where)*picture
    assert np.abs(sharpen(high)[0].permute(1, 2, 0).numpy() - wanted).max() < 1e-4
    assert np.abs(wanted - picture).max() > 0.03


def test_the_loss_compares_with_sharpened_high():
    high = torch.rand(2, 3, 48, 48)
    sr = torch.rand(2, 3, 48, 48)
    assert SRLoss(sharpen=0.5)(sr, high) == SRLoss()(sr, sharpen(high)) != SRLoss()(sr, high)
    assert torch.equal(SRLoss(sharpen=0.5)(sr, high, "none"), SRLoss()(sr, sharpen(high), "none"))
