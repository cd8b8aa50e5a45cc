"Plans of tiles: products of sizes that are no reading matter."
import itertools

import numpy as np
import pytest
from scipy.ndimage import correlate1d

from paintsr_nb.upscaling.tiles import cut, place, plan_tiles

SIDES, TILES, CONTEXTS = (1, 2, 3, 5, 8, 13, 31, 64, 65), (1, 2, 7, 16, 64, 1000), (0, 1, 5, 40)


def repeat(pixels, scale=4): return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def join(pixels, net, scale=4, **plan):
    "What comes out when every tile of the plan goes through `net`; 99 where no tile put anything."
    sr = np.full((scale*pixels.shape[0], scale*pixels.shape[1], pixels.shape[2]), 99, pixels.dtype)
    for tile in plan_tiles(*pixels.shape[:2], **plan): place(net(cut(pixels, tile)), tile, sr, scale)
    return sr


@pytest.mark.parametrize("step", (1, 2, 8))
def test_cores_cover_every_pixel_once_and_boxes_carry_their_context(step):
    for height, width, tile, context in itertools.product(SIDES, SIDES, TILES, CONTEXTS):
        seen = np.zeros((height, width), int)
        for piece in plan_tiles(height, width, tile, context, step):
            seen[piece.core] += 1
            for core, box, size in zip(piece.core, piece.box, (height, width)):
                assert 0 <= box.start <= core.start < core.stop <= box.stop <= size
                assert core.start - box.start >= min(context, core.start)
                assert box.stop - core.stop >= min(context, size - core.stop)
                assert core.start % step == box.start % step == 0
                assert core.stop - core.start <= max(tile, step)
        assert (seen == 1).all(), (height, width, tile, context)


def test_tiles_are_balanced():
    for size, tile in itertools.product(range(1, 130), (1, 7, 16, 50)):
        sides = [piece.core[1].stop - piece.core[1].start for piece in plan_tiles(1, size, tile, 3)]
        assert max(sides) - min(sides) <= 1 and len(sides) == -(-size//tile)


def test_rows_are_finished_from_top_to_bottom():
    tops = [piece.core[0].start for piece in plan_tiles(100, 100, 30, 5)]
    assert tops == sorted(tops)


@pytest.mark.parametrize("scale", (1, 2, 4))
@pytest.mark.parametrize("dtype", (np.uint8, np.uint16))
def test_a_net_that_repeats_pixels_is_exact_at_any_size_and_tile(scale, dtype):
    rng = np.random.default_rng(1)
    for height, width, tile, context in itertools.product((1, 2, 13, 33), (1, 7, 40), TILES, CONTEXTS):
        pixels = rng.integers(np.iinfo(dtype).max, size=(height, width, 3), dtype=dtype)
        tiled = join(pixels, lambda box: repeat(box, scale), scale, tile=tile, context=context)
        assert np.array_equal(tiled, repeat(pixels, scale)), (height, width, tile, context)


def test_zero_padding_belongs_to_the_true_border_alone():
    "A net that pads with zeros, as convolutions do: exact with its own reach as context, wrong with less."
    reach, rng = 4, np.random.default_rng(2)
    kernel = rng.random(2*reach+1)

    def net(pixels):
        for axis in (0, 1): pixels = correlate1d(pixels, kernel, axis=axis, mode="constant")
        return repeat(pixels)
    for height, width in ((1, 1), (1, 50), (23, 41), (64, 20)):
        pixels = rng.random((height, width, 3))
        whole = net(pixels)
        for tile in (1, 9, 20, 63):
            assert np.array_equal(join(pixels, net, tile=tile, context=reach), whole)
    assert not np.allclose(join(pixels, net, tile=20, context=reach-1), whole)


@pytest.mark.parametrize("bad", (dict(height=0), dict(width=-3), dict(tile=0), dict(context=-1), dict(step=0)))
def test_nonsense_is_named(bad):
    good = dict(height=10, width=10, tile=5, context=2, step=1)
    with pytest.raises(ValueError, match=f"{list(bad)[0]}={list(bad.values())[0]} must be"): plan_tiles(**good | bad)


def test_a_result_of_another_size_is_refused():
    pixels = np.zeros((10, 12, 3), np.uint8)
    with pytest.raises(ValueError, match="a tile's result is 36x30 px, expected 48x40"):
        join(pixels, lambda box: repeat(box, 3), tile=20, context=2)


