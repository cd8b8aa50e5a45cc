"""What made an LR picture, and making it again: named on made pairs, the same in a part as in the whole, in every process and after every resume.

Not in the notebooks because each of these goes through many pairs, draws or runs."""
import json
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

import paintsr_nb.training.train as training
from paintsr_nb import commands
from paintsr_nb.core import random_at
from paintsr_nb.data import degrade as room, patches
from paintsr_nb.data.degrade import DEGRADATIONS, Degradation, Round, Way, blur_kernel, degrade
from paintsr_nb.data.fitted import find_degradation, fit_degradation, name_pairs
from paintsr_nb.data.patches import sr_dls
from paintsr_nb.data.store import prepare
from paintsr_nb.data.technique import RESAMPLERS, fit_kernel, jpeg_of_pixels, name_technique, resampler_matrix, through_jpeg
from paintsr_nb.nets.foreign import load_model
from paintsr_nb.picture import read_rgb8, round_half_up, write_picture
from paintsr_nb.resize import crop_to_multiple, resize, shrink
from paintsr_nb.samples import samples
from paintsr_nb.training.checkpoint import CheckpointCallback
from paintsr_nb.training.recipes import Recipe, Stage
from paintsr_nb.training.run import load_checkpoint
from paintsr_nb.training.train import train

WAYS = ("bicubic", "bilinear", "lanczos", "box", "nearest", "blur + bicubic", "+ JPEG", "+ noise", "+ noise + JPEG")


def quarter(high, name): return resize(high, high.shape[0]//4, high.shape[1]//4, name)


def softened(pixels, sigma): return round_half_up(ndimage.gaussian_filter(pixels.astype(np.float32), (sigma, sigma, 0)))


def made_by(way, high, rng):
    "An LR picture made in a way, by the house's resize, SciPy's Gaussian and Pillow's JPEG; and the name that it must be given."
    if way in RESAMPLERS: return quarter(high, way), way
    if way == "blur + bicubic": return shrink(softened(high, rng.uniform(0.8, 3))), way
    name = str(rng.choice(["bicubic", "bilinear", "lanczos", "box"]))
    low = quarter(high, name)
    if "noise" in way: low = round_half_up(low + rng.normal(0, rng.uniform(2, 8), low.shape))
    if "JPEG" in way: low = through_jpeg(low, int(rng.integers(50, 96)), bool(rng.integers(2)))
    return low, f"{name} {way}"


def wrong_names(pictures, seed):
    "How many pairs, and (true, found) of those with a wrong name, over every way for every picture."
    rng, wrong, pairs = np.random.default_rng(seed), [], 0
    for high in pictures:
        for way in WAYS:
            low, name = made_by(way, high, rng)
            found, pairs = name_technique(low, high).name, pairs + 1
            if found != name: wrong.append((name, found))
    return pairs, wrong


def test_techniques_are_named_on_the_samples():
    pairs, wrong = wrong_names([sample.high[700:1340, 900:1540] for sample in samples()], seed=1)
    assert pairs == 45 and len(wrong) <= 0.05*pairs, wrong


@pytest.mark.shared
def test_techniques_are_named_on_paintings(data):
    files = sorted((data/"paintings"/"train").glob("*.jpg"))[::8]
    pairs, wrong = wrong_names([crop_to_multiple(read_rgb8(file)[:1600, :1600], 4) for file in files], seed=2)
    assert pairs >= 90 and len(wrong) <= 0.05*pairs, wrong


def test_numbers_of_a_technique():
    high, rng = samples("dahlia")[0].high[700:1468, 900:1668], np.random.default_rng(0)
    low = shrink(high)
    def noisy(noise): return round_half_up(low + rng.normal(0, noise, low.shape))
    for sigma in (1.0, 1.7, 2.6): assert name_technique(shrink(softened(high, sigma)), high).sigma == pytest.approx(sigma, abs=0.06)
    for noise in (2, 5, 9): assert name_technique(noisy(noise), high).noise == pytest.approx(noise, rel=0.06)
    for noise in (4, 8): assert name_technique(through_jpeg(noisy(noise), 80), high).noise == pytest.approx(noise, rel=0.15)
    for quality in (40, 77, 93):
        for full in (False, True):
            found = name_technique(through_jpeg(low, quality, full), high)
            assert (found.jpeg, found.full_chroma) == (quality, full)


def test_no_jpeg_is_seen_where_there_is_none():
    rng = np.random.default_rng(0)
    for sample in samples():
        noisy = round_half_up(sample.low + rng.normal(0, 5, sample.low.shape))
        shifted = through_jpeg(sample.low, 60)[4:, 4:]   # its blocks lie elsewhere
        clean = sample.low, softened(sample.low, 2), noisy, np.zeros_like(noisy), sample.low[3:, 5:], shifted
        assert [jpeg_of_pixels(low) for low in clean] == [0]*6


@pytest.mark.parametrize("down,right", [(1, 0), (-2, 3), (5, -4)])
def test_a_fitted_kernel_sees_a_shift(down, right):
    high = samples("dahlia")[0].high[700:1340, 900:1540]
    y, x = np.mgrid[-12:13, -12:13]
    def middle(weights): return np.array([(weights*axis).sum()/weights.sum() for axis in (y, x)])
    moved = fit_kernel(shrink(np.roll(high, (-down, -right), (0, 1))), high)
    assert middle(moved) - middle(fit_kernel(shrink(high), high)) == pytest.approx([down, right], abs=0.1)


@pytest.mark.parametrize("name", RESAMPLERS)
def test_a_resampler_keeps_what_is_flat(name):
    for n_in, n_out in ((48, 12), (48, 31), (12, 30), (5, 1), (1, 3)):
        assert np.allclose(resampler_matrix(n_in, n_out, name).sum(1), 1, atol=1e-6)


# A part is as the whole

@pytest.fixture(scope="module")
def high(): return np.ascontiguousarray(samples("pagoda")[0].high[600:1000, 1200:1640])


def silent(degradation):
    "Without noise, which no two windows share."
    ways = [replace(way, rounds=[replace(one, noise=0.0) for one in way.rounds]) for way in degradation.ways]
    return replace(degradation, ways=ways)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_part_is_as_the_whole(high, name):
    parts, degradation = [(0, 0, 30, 30), (70, 80, 30, 30), (33, 41, 48, 52), (99, 0, 1, 110), (17, 109, 5, 1)], silent(DEGRADATIONS[name])
    for number in range(12):
        whole = degrade(high, degradation, random_at(5, number))
        assert whole.shape == (100, 110, 3) and whole.dtype == np.uint8
        for top, left, rows, columns in parts:
            part = degrade(high, degradation, random_at(5, number), (top, left, rows, columns))
            assert np.array_equal(part, whole[top:top + rows, left:left + columns]), (number, top, left)


def test_bicubic_is_shrink(high): assert np.array_equal(degrade(high, DEGRADATIONS["bicubic"], random_at(0)), shrink(high))


@pytest.mark.parametrize("name", ["mild", "scan", "second_order"])
def test_a_draw_is_a_function_of_its_generator(high, name):
    addresses = (1, 2, 3), (1, 2, 3), (1, 2, 4), (1, 3, 3), (2, 2, 3)
    made = [degrade(high, DEGRADATIONS[name], random_at(*address), (20, 20, 48, 48)) for address in addresses]
    assert np.array_equal(made[0], made[1])
    assert all(not np.array_equal(made[0], other) for other in made[2:])


def test_tiny_pictures(high):
    for rows, columns in ((4, 4), (4, 40), (36, 8)):
        for degradation in DEGRADATIONS.values():
            for number in range(6): assert degrade(high[:rows, :columns], degradation, random_at(number)).shape == (rows//4, columns//4, 3)


@pytest.mark.parametrize("changes", [dict(jpeg=(95, 50)), dict(sigma=(1, 2, 3)), dict(resamplers=("sinc",)), dict(families=dict(motion=1))])
def test_what_cannot_be_is_refused(changes):
    with pytest.raises(ValueError): Round(**changes)


def chains_of(name, count=1500):
    "The steps of many draws, for LR of 100 pixels."
    rng = random_at(9)
    return [room._draw_steps(DEGRADATIONS[name], (100, 100), rng) for _ in range(count)]


def of_kind(chain, kind): return [step for step in chain if isinstance(step, kind)]


def fills(values, least, greatest):
    "Do values lie in a range, and come near both of its ends?"
    slack = (greatest - least)/30
    return least <= min(values) < least + slack and greatest - slack < max(values) <= greatest


def share(values): return pytest.approx(np.mean(values), abs=0.05)


def test_the_second_order_draws_what_is_published():
    "Shares and ranges of Real-ESRGAN's code."
    chains = chains_of("second_order")
    assert {2*chain[0].reach + 1 for chain in chains if isinstance(chain[0], room._Blur)} == {7, 9, 11, 13, 15, 17, 19, 21}
    assert all(isinstance(chain[0], room._Blur) and chain[-1].size == (100, 100) for chain in chains)
    first, second = zip(*(of_kind(chain, room._Noise) for chain in chains))   # exactly two
    for noises, levels, counts in ((first, (1, 30), (0.05, 3)), (second, (1, 25), (0.05, 2.5))):
        assert fills([step.amount for step in noises if step.counted], *counts)
        assert fills([step.amount for step in noises if not step.counted], *levels)
        assert 0.5 == share([step.counted for step in noises]) and 0.4 == share([step.grey for step in noises])
    sides = np.array([step.size[0]/400 for step in first])
    assert fills(sides, 0.15, 1.5) and 0.2 == share(sides > 1) and 0.7 == share(sides < 1)
    sides = np.array([step.size[0]/100 for step in second])
    assert fills(sides, 0.3, 1.2) and 0.3 == share(sides > 1) and 0.3 == share(sides == 1)
    early, late = zip(*(of_kind(chain, room._Jpeg) for chain in chains))
    assert {step.quality for step in early} == {step.quality for step in late} == set(range(30, 96))
    assert 0.5 == share([isinstance(chain[-1], room._Jpeg) for chain in chains])


def test_scan_and_mild_keep_their_words():
    chains = chains_of("scan", 500)
    for chain in chains:
        for jpeg in of_kind(chain, room._Jpeg): assert 50 <= jpeg.quality <= 95 and not jpeg.full_chroma and chain[-1] is jpeg
        assert len(of_kind(chain, room._Resize)) in (1, 2)
    kinds = Counter(tuple(map(type, chain)) for chain in chains)
    assert 0.15 == share([kinds[room._Resize,] > 0 and len(chain) == 1 for chain in chains])
    assert 0.35 == share([tuple(map(type, chain)) == (room._Resize, room._Jpeg) for chain in chains])
    for chain in chains_of("mild", 500): assert [type(step) for step in chain] == [room._Blur, room._Resize] and chain[0].reach <= 3


def test_shares_are_kept():
    rng = random_at(3)
    shapes = Counter(room._draw_blur(Round(families=dict(gaussian=0.6, plateau=0.4)), (90, 90), rng).row is None for _ in range(2000))
    assert shapes[True]/2000 == pytest.approx(0.4, abs=0.04)
    two = Degradation("two", (Way((Round(resamplers=("nearest",)),), share=3), Way((Round(resamplers=("box",)),))))
    found = [room._draw_steps(two, (10, 10), rng)[0].resampler for _ in range(2000)]
    assert found.count("nearest")/2000 == pytest.approx(0.75, abs=0.04)


# Fitted to a store

@pytest.fixture(scope="module")
def pair_store(tmp_path_factory):
    "Pairs made in four ways."
    folder, (sample,) = tmp_path_factory.mktemp("pairs"), samples("dahlia")
    kernel = blur_kernel("gaussian", 25, (2.5, 1.0), 0.7)
    def slanted(high):
        return round_half_up(np.stack([ndimage.correlate(plane.astype(float), kernel, mode="reflect") for plane in np.moveaxis(high, -1, 0)], -1)[2::4, 2::4])
    for number, way in enumerate((shrink, lambda high: quarter(high, "lanczos"), lambda high: through_jpeg(shrink(high), 70), slanted)):
        part = np.ascontiguousarray(sample.high[300 + 400*number:700 + 400*number, 800:1240])
        write_picture(folder/"high"/f"{number}.png", part)
        write_picture(folder/"low"/f"{number}.png", way(part))
    return prepare(folder/"store", low=folder/"low", high=folder/"high", valid=0, num_workers=1).store


def test_a_fitted_degradation_makes_the_pairs_again(pair_store):
    found = name_pairs(pair_store)
    assert [one.name for one in found.values()] == ["bicubic", "lanczos", "bicubic + JPEG", "kernel"]
    for name, one in found.items():
        made = degrade(pair_store.high(name), fit_degradation([one]), random_at(0)).astype(float)
        assert np.sqrt(np.square(made - pair_store.low(name))[4:-4, 4:-4].mean()) < 0.6, name


def test_a_fitted_degradation_counts(pair_store):
    found = [*name_pairs(pair_store).values()]
    fitted = fit_degradation([found[0]]*3 + found[1:])
    assert sorted(way.share for way in fitted.ways) == [1, 1, 1, 3]
    assert Degradation(**json.loads(json.dumps(asdict(fitted)))) == fitted


def test_the_tables_of_a_jpeg_file_are_asked(tmp_path, high):
    write_picture(tmp_path/"high"/"a.png", high)
    (tmp_path/"low").mkdir()
    Image.fromarray(shrink(high)).save(tmp_path/"low"/"a.jpg", quality=99, subsampling=0)   # too fine to be seen in the pixels
    store = prepare(tmp_path/"store", low=tmp_path/"low", high=tmp_path/"high", valid=0, num_workers=1).store
    found = name_pairs(store)["a"]
    assert (found.jpeg, found.full_chroma, found.resampler) == (99, True, "bicubic")
    (tmp_path/"low"/"a.jpg").unlink()
    assert name_pairs(store)["a"].resampler == "bicubic"


def test_a_store_without_given_lr_cannot_be_fitted(tiny_store):
    with pytest.raises(ValueError, match="all were made from HR by bicubic: prepare with low"): find_degradation("fitted", tiny_store)


# In a loader

def batches(store, degradation, passes=1, start=0, bs=4, **kwargs):
    dls = sr_dls(store, low_size=24, bs=bs, n_iters=5, valid_size=16, device="cpu", degradation=degradation, **kwargs)
    dls.train.start = start
    return [(low.clone(), high.clone()) for _ in range(passes) for low, high in dls.train]


def assert_same(some, others):
    for (low, high), (other_low, other_high) in zip(some, others, strict=True): assert torch.equal(low, other_low) and torch.equal(high, other_high)


def test_bicubic_on_the_fly_is_what_the_store_holds(tiny_store):
    "LR of this store were made by `shrink`: at borders too, turned and mirrored, and with the same crops."
    assert_same(batches(tiny_store, None, passes=3), batches(tiny_store, DEGRADATIONS["bicubic"], passes=3))


@pytest.mark.parametrize("name", ["scan", "second_order"])
def test_workers_starts_and_ranks_change_nothing(tiny_store, name):
    degradation = DEGRADATIONS[name]
    alone = batches(tiny_store, degradation, passes=2)
    assert_same(alone, batches(tiny_store, degradation, passes=2, num_workers=2))
    assert_same(alone[3:5], batches(tiny_store, degradation, start=3))
    shares = [batches(tiny_store, degradation, bs=2, rank=rank, world=2) for rank in range(2)]
    for (low, _), *parts in zip(alone, *shares): assert torch.equal(low, torch.cat([part[0] for part in parts]))
    assert not torch.equal(alone[0][0], alone[5][0])


def test_every_crop_has_a_generator_of_its_own(tiny_store, monkeypatch):
    "Another one in every pass, and not the one that decided where the crop lies."
    states = []
    def note(high, crop, size, degradation, rng):
        states.append(str(rng.bit_generator.state["state"]))
        return really(high, crop, size, degradation, rng)
    really = patches.degrade_crop
    monkeypatch.setattr(patches, "degrade_crop", note)
    batches(tiny_store, DEGRADATIONS["bicubic"], passes=2)
    made, crops = states[-40:], [str(random_at(42, epoch, index).bit_generator.state["state"]) for epoch in range(2) for index in range(20)]
    assert len({*made, *crops}) == 80


def test_validation_keeps_the_low_of_the_store_unless_told(tiny_store):
    scan = DEGRADATIONS["scan"]
    kinds = dict(), dict(degradation=scan), dict(degradation=scan, valid_degradation=scan)
    stored, kept, made = (sr_dls(tiny_store, low_size=24, valid_size=16, device="cpu", **kind) for kind in kinds)
    assert_same(kept.valid, stored.valid)
    assert kept.train.new().degradation == made.valid.new().degradation == scan
    first = list(made.valid)
    assert not any(torch.equal(low, other) for (low, _), (other, _) in zip(first, stored.valid))
    assert_same(first, made.valid)   # the second pass
    assert all(torch.equal(high, other) for (_, high), (_, other) in zip(first, stored.valid, strict=True))


def test_the_centre_of_a_validation_picture_has_the_borders_of_the_whole(tiny_store):
    bicubic = DEGRADATIONS["bicubic"]
    made, stored = (sr_dls(tiny_store, low_size=24, valid_size=16, device="cpu", valid_degradation=one) for one in (bicubic, None))
    assert_same(made.valid, stored.valid)


# In a run

SHORT = Recipe("short", (Stage("l1", 7, lr=1e-3),), arguments=dict(num_filters=8, num_blocks=1), low_size=12, bs=2,
               epoch_iters=4, valid_size=16, precision="fp32", degradation="scan")


def run_of(store, folder, degradation, **kwargs): return train(replace(SHORT, degradation=degradation), store, folder, device="cpu", predict=False, **kwargs)


def assert_same_weights(*runs):
    one, other = (load_checkpoint(run/"checkpoints"/"0_l1.pt")["generator"] for run in runs)
    assert one and all(torch.equal(one[name], other[name]) for name in {**one, **other})


def test_stored_is_what_it_was(tiny_store, tmp_path, one_thread):
    stored, bicubic, scan = (run_of(tiny_store, tmp_path/name, name) for name in ("stored", "bicubic", "scan"))
    assert not (stored/"degradation.json").exists()
    assert json.loads((bicubic/"degradation.json").read_text())["name"] == "bicubic"
    assert_same_weights(stored, bicubic)
    with pytest.raises(AssertionError): assert_same_weights(stored, scan)


@pytest.mark.filterwarnings("ignore:.*no validation picture")
def test_a_cut_run_goes_on_with_the_degradation_that_it_began_with(pair_store, tmp_path, monkeypatch, one_thread):
    "Bit for bit, and without naming the pairs anew."
    straight = run_of(pair_store, tmp_path/"straight", "fitted")
    original = CheckpointCallback.after_batch
    def stop(self):
        if self.learn.training and self.learn.position.steps == 3: self.stopping = True
        original(self)
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointCallback, "after_batch", stop)
        run_of(pair_store, tmp_path/"cut", "fitted")
    monkeypatch.setattr(training, "find_degradation", None)
    assert_same_weights(straight, run_of(pair_store, tmp_path/"cut", "fitted", resume=True))


def test_an_impossible_degradation_leaves_no_run(tiny_store, tmp_path):
    with pytest.raises(ValueError, match="prepare with low"): run_of(tiny_store, tmp_path/"run", "fitted")
    assert not (tmp_path/"run").exists()
    with pytest.raises(ValueError, match="no degradation 'old': choose one of stored"): replace(SHORT, degradation="old")


def test_the_command_takes_a_word(tiny_store, tmp_path):
    small = dict(recipe="l1", arch="compact", n_iters=1, bs=1, low_size=8, valid_size=12, precision="fp32", device="cpu")
    commands.paintsr_train(str(tiny_store.path), out=str(tmp_path/"run"), degradation="scan", **small)
    assert json.loads((tmp_path/"run"/"recipe.json").read_text())["degradation"] == "scan"
    assert json.loads((tmp_path/"run"/"degradation.json").read_text())["name"] == "scan"
    assert load_model(tmp_path/"run").card["degradation"] == "scan"
    with pytest.raises(ValueError, match="no degradation 'photo'"): commands.paintsr_train(str(tiny_store.path), out=str(tmp_path/"no"), degradation="photo", **small)
