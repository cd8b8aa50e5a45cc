"Figures: fields of view to the pixel, what a notebook receives, and errors. The notebook shows how they look."
import subprocess, sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from paintsr_nb.figures import before_after, curves, strip


def noise(*shape): return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def screen(figure):
    "What the figure looks like, (H,W,3) uint8."
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def panels(figure, n):
    "The drawn panels without their headings."
    drawn = screen(figure)
    width = (drawn.shape[1] + 8)//n - 8
    head = drawn.shape[0] - round(figure.axes[0].get_position().height*drawn.shape[0])
    return [drawn[head:, k*(width + 8):k*(width + 8) + width] for k in range(n)]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("crop", [(0, 0, 24, 24), (5, 7, 30, 31), (11, 0, 25, 48), (47, 46, 1, 2)])
def test_low_and_its_repeated_pixels_look_alike(scale, crop):
    low = noise(48//scale, 48//scale, 3)
    repeated = low.repeat(scale, 0).repeat(scale, 1)
    small, large = panels(strip({"LR": low, "repeated": repeated}, crop=crop), 2)
    np.testing.assert_array_equal(small, large)


def test_high_pixels_are_enlarged_by_a_whole_number():
    high = noise(60, 60, 3)
    shown, = panels(strip({"HR": high}, crop=(10, 20, 30, 40), size=2.2), 1)
    np.testing.assert_array_equal(shown, high[10:40, 20:60].repeat(5, 0).repeat(5, 1))


def test_a_large_picture_is_averaged_down():
    shown, = panels(strip({"HR": noise(900, 900, 3)}, size=1), 1)
    assert shown.shape[:2] == (100, 100)
    assert shown.astype(float).std() < 25, "single pixels were picked instead of averaged"
    assert abs(shown.mean() - 127.5) < 3


def test_grey_pictures_keep_their_levels():
    shown, = panels(strip({"map": np.full((50, 50), 64, np.uint8)}, size=1), 1)
    assert (shown == 64).all()


@pytest.mark.parametrize("pictures, crop, error, words", [
    ({}, None, ValueError, "no pictures"),
    ({"HR": [[1, 2]]}, None, TypeError, "'HR' is list"),
    ({"HR": np.zeros((8, 8, 3))}, None, TypeError, "float64 (8, 8, 3)"),
    ({"HR": np.zeros((8, 8, 4), np.uint8)}, None, TypeError, "expected a uint8 array"),
    ({"LR": np.zeros((2, 3, 3), np.uint8), "HR": np.zeros((8, 8, 3), np.uint8)}, None, ValueError, "'LR' is 3x2"),
    ({"HR": np.zeros((8, 8, 3), np.uint8)}, (-1, 0, 4, 4), ValueError, "(-1, 0, 4, 4)"),
    ({"HR": np.zeros((8, 8, 3), np.uint8)}, (0, 0, 4, 9), ValueError, "8 rows and 8 columns"),
    ({"HR": np.zeros((8, 8, 3), np.uint8)}, (0, 0, 0, 4), ValueError, "in pixels of the largest picture"),
])
def test_errors_tell_what_was_found(pictures, crop, error, words):
    with pytest.raises(error) as caught: strip(pictures, crop)
    assert words in str(caught.value)


def test_before_after_frames_the_crop():
    high = np.zeros((400, 400, 3), np.uint8)
    low = np.zeros((100, 100, 3), np.uint8)
    figure = before_after(low, high, high, crop=(100, 200, 100, 100), size=4)
    assert [axes.get_title() for axes in figure.axes] == ["The painting", "LR", "upscaled", "HR"]
    whole = screen(figure)[28:, :400].astype(int).sum(2)
    rows, columns = np.flatnonzero(whole[:, 250] > 300), np.flatnonzero(whole[150] > 300)
    assert abs(rows.min() - 100) < 3 and abs(rows.max() - 200) < 3
    assert abs(columns.min() - 200) < 3 and abs(columns.max() - 300) < 3
    assert len(before_after(low, high, None, crop=(0, 0, 40, 40)).axes) == 3


def test_curves_draw_the_given_values():
    history = pd.DataFrame(dict(epoch=[1, 2, 3], loss=[3.0, np.nan, 1.0], psnr=[20.0, 21.0, 22.0], file=["a", "b", "c"]))
    kept = history.copy()
    loss, psnr = curves(history).axes
    np.testing.assert_array_equal(loss.lines[0].get_xydata(), [[1, 3], [3, 1]])
    np.testing.assert_array_equal(psnr.lines[0].get_xydata(), [[1, 20], [2, 21], [3, 22]])
    assert (loss.get_title(), loss.get_xlabel()) == ("loss", "epoch")
    assert len(curves(history, [("loss", "psnr")]).axes) == 1
    pd.testing.assert_frame_equal(history, kept)


def test_long_curves_get_a_running_mean():
    history = pd.DataFrame(dict(step=np.arange(1000), l1=noise(1000)/255))
    raw, mean = curves(history, ["l1"]).axes[0].lines
    assert mean.get_ydata()[200:].std() < raw.get_ydata().std()/4


def test_unknown_columns_list_the_known():
    history = pd.DataFrame(dict(step=[1], l1=[0.5]))
    with pytest.raises(ValueError, match="lpips in the history: choose from l1"): curves(history, ["lpips"])
    with pytest.raises(ValueError, match="at all in the history: choose from none"): curves(history[["step"]])


@pytest.mark.parametrize("figure, kind", [
    (lambda: strip({"HR": noise(200, 200, 3)}), "image/jpeg"),
    (lambda: curves(pd.DataFrame(dict(step=[1, 2], l1=[2.0, 1.0]))), "image/png"),
])
def test_a_notebook_gets_one_small_picture(figure, kind, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.publish_display_data", shown.append)
    figure()._ipython_display_()
    assert [key for key in shown[0] if key.startswith("image/")] == [kind]


def test_pyplot_is_left_alone():
    code = ("import io, sys, numpy as np; from paintsr_nb.figures import strip; strip({'HR': np.zeros((8, 8, 3), np.uint8)}).savefig(io.BytesIO()); "
            "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
