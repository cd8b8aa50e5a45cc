"Crops: aligned at every scale and in every turn, the same in any process, and named addresses."
import warnings

import numpy as np
import pytest
import torch

from paintsr_nb.data.patches import Crop, cut_crop, draw_crop, sr_dls
from paintsr_nb.data.store import Store, prepare
from paintsr_nb.picture import write_picture


def coordinates(height, width, ratio=1):
    "Each pixel holds the row and the column of the LR pixel that it belongs to."
    rows, columns = np.mgrid[:height*ratio, :width*ratio]//ratio
    return np.stack([rows, columns, rows*0 + 7], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_both_sides_show_the_same_place(scale, turns, mirrored):
    low, high = coordinates(23, 31), coordinates(23, 31, scale)
    for top, left in ((0, 0), (23 - 9, 31 - 9), (5, 17)):
        low_crop, high_crop = cut_crop(low, high, Crop(0, top, left, turns, mirrored), 9)
        assert low_crop.shape == (9, 9, 3) and high_crop.shape == (9*scale, 9*scale, 3)
        assert np.array_equal(high_crop, low_crop.repeat(scale, 0).repeat(scale, 1))
        assert low_crop[..., 0].min() == top and low_crop[..., 1].min() == left


def test_eight_augmentations_are_eight_pictures():
    low = coordinates(9, 9)
    seen = {cut_crop(low, low, Crop(0, 0, 0, turns, mirrored), 9)[0].tobytes() for turns in range(4) for mirrored in (False, True)}
    assert len(seen) == 8


def test_every_place_turn_and_picture_is_drawn():
    sizes = np.array([(12, 10), (8, 20)])
    crops = [draw_crop(sizes, 8, seed=3, epoch=0, index=index) for index in range(2000)]
    assert {crop.turns for crop in crops} == {0, 1, 2, 3} and {crop.mirrored for crop in crops} == {False, True}
    assert {(crop.top, crop.left) for crop in crops if crop.picture == 0} == {(top, left) for top in range(5) for left in range(3)}
    share = np.mean([crop.picture == 0 for crop in crops])
    assert abs(share - 120/280) < 0.04   # pictures are drawn by their area


@pytest.mark.parametrize("changed", [dict(seed=4), dict(epoch=1), dict(index=6)])
def test_a_crop_depends_on_its_whole_address(changed):
    sizes, address = np.array([(200, 200)]), dict(seed=3, epoch=0, index=5)
    assert draw_crop(sizes, 8, **address) == draw_crop(sizes, 8, **address) != draw_crop(sizes, 8, **address | changed)


@pytest.fixture(scope="module")
def map_store(tmp_path_factory):
    "A store whose pixels are coordinates, so that batches tell where they were cut."
    folder = tmp_path_factory.mktemp("map")
    for number in range(3):
        picture = coordinates(30, 40)
        picture[..., 2] = 60*number
        write_picture(folder/"low"/f"{number}.png", picture)
        write_picture(folder/"high"/f"{number}.png", picture.repeat(4, 0).repeat(4, 1))
    return prepare(folder/"store", low=folder/"low", high=folder/"high", valid=0.34, num_workers=1).store


def epoch(store, num_workers=0, start=0, passes=1, bs=4, **kwargs):
    dls = sr_dls(store, low_size=8, bs=bs, n_iters=6, valid_size=16, num_workers=num_workers, device="cpu", **kwargs)
    dls.train.start = start
    return [(low.clone(), high.clone()) for _ in range(passes) for low, high in dls.train]


def test_batches_are_aligned_floats(map_store):
    for low, high in epoch(map_store):
        assert low.shape == (4, 3, 8, 8) and high.shape == (4, 3, 32, 32) and low.dtype == torch.float32
        assert torch.equal(high, low.repeat_interleave(4, 2).repeat_interleave(4, 3))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_give_the_same_epochs(map_store, num_workers):
    alone, together = epoch(map_store, passes=2), epoch(map_store, num_workers, passes=2)
    for a, b in zip(alone, together, strict=True): assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    assert not torch.equal(alone[0][0], alone[6][0])   # the second pass is another one


def test_a_pass_can_begin_in_its_middle(map_store):
    for a, b in zip(epoch(map_store)[4:], epoch(map_store, num_workers=2, start=4), strict=True): assert torch.equal(a[1], b[1])


def test_validation_is_the_centre_of_every_picture(map_store):
    dls = sr_dls(map_store, low_size=8, bs=4, n_iters=2, valid_size=16, device="cpu")
    (low, high), = dls.valid
    assert low.shape == (1, 3, 16, 16) and (low[0, 0]*255).round().min() == 7 and (low[0, 1]*255).round().min() == 12
    whole, = sr_dls(map_store, low_size=8, bs=4, n_iters=2, device="cpu").valid
    assert whole[0].shape == (1, 3, 30, 40)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("world,bs,start", [(2, 2, 0), (2, 2, 4), (2, 1, 5), (3, 2, 1), (4, 1, 0)])
def test_processes_share_the_batches_of_one(map_store, world, bs, start, num_workers):
    "The crops of all ranks, joined, are the batches of one process with `world*bs`, in every pass and from any batch on."
    alone = epoch(map_store, start=start, passes=3, bs=world*bs)
    shares = [epoch(map_store, num_workers, start, passes=3, bs=bs, rank=rank, world=world) for rank in range(world)]
    assert len(alone) == 3*(6 - start)
    for (low, high), *parts in zip(alone, *shares, strict=True):
        assert torch.equal(torch.cat([part[0] for part in parts]), low) and torch.equal(torch.cat([part[1] for part in parts]), high)


def test_a_shared_loader_counts_the_batches_of_this_process(map_store):
    "What a resumed run sets: `n` and `start` speak of one process, and the last, shorter pass is shared out too."
    def rest(bs, **kwargs):
        loader = sr_dls(map_store, low_size=8, bs=bs, n_iters=6, valid_size=16, device="cpu", **kwargs).train
        loader.n, loader.epoch, loader.start = 3*bs, 4, 1
        assert len(loader) == 2
        return [high for _, high in loader]
    for both, *parts in zip(rest(4), rest(2, rank=0, world=2), rest(2, rank=1, world=2), strict=True): assert torch.equal(torch.cat(parts), both)


def test_validation_is_whole_on_every_rank(map_store):
    for rank in range(2):
        dls = sr_dls(map_store, low_size=8, bs=2, n_iters=2, valid_size=16, device="cpu", rank=rank, world=2)
        assert torch.equal(next(iter(dls.valid))[1], next(iter(sr_dls(map_store, low_size=8, valid_size=16, device="cpu").valid))[1])
        assert len(dls.valid) == 1 and (dls.train.new().rank, dls.train.new().world) == (rank, 2)


def test_sizes_are_not_looked_up_in_the_files(tmp_path, monkeypatch):
    "To see what an item is, fastai opens a picture or two; to draw crops no other is opened."
    for number in range(8): write_picture(tmp_path/"high"/f"{number}.png", coordinates(40, 40 + 4*number))
    store = prepare(tmp_path/"store", high=tmp_path/"high", num_workers=1).store
    opened, really = set(), Store._open
    monkeypatch.setattr(Store, "_open", lambda self, name, side: opened.add(name) or really(self, name, side))
    loader = sr_dls(store, low_size=8, bs=1, n_iters=2, device="cpu").train
    assert {loader.crop_at(0, index).picture for index in range(300)} == set(range(7))
    assert len(opened & set(store.ids("train"))) <= 2


def test_a_training_picture_in_place_of_validation_is_told(tmp_path):
    for number in range(2): write_picture(tmp_path/"high"/f"{number}.png", coordinates(40, 48))
    store = prepare(tmp_path/"store", high=tmp_path/"high", valid=0, num_workers=1).store
    with pytest.warns(UserWarning, match=r"store has no validation picture: the training picture '0' .* larger `valid`") as heard:
        dls = sr_dls(store, low_size=8, bs=1, n_iters=1, device="cpu")
    assert heard[0].filename == __file__ and len(dls.valid) == 1 and dls.train.dataset.items == ["0", "1"]


def test_a_store_with_validation_warns_of_nothing(map_store):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sr_dls(map_store, low_size=8, bs=1, n_iters=1, device="cpu")


@pytest.mark.parametrize("rank,world", [(-1, 2), (2, 2), (0, 0)])
def test_a_rank_outside_the_world_is_refused(map_store, rank, world):
    with pytest.raises(ValueError, match="number the processes from 0"): sr_dls(map_store, low_size=8, rank=rank, world=world)
