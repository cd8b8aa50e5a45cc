"What the page about the live drawing leaves out: a notebook that is drawn into, runs of two stages, a drive that vanishes."
import re

import IPython.display
import numpy as np
import pytest

from paintsr_nb.picture import write_picture
from paintsr_nb.training import live
from paintsr_nb.training.callback import PositionCallback
from paintsr_nb.training.checkpoint import HistoryCallback
from paintsr_nb.training.live import LiveCallback, _drawing
from paintsr_nb.training.learner import PreviewCallback
from tiny import fit, tiny_gan, tiny_learner

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_notebook_is_drawn_into_once_and_then_changed(tiny_store, monkeypatch):
    shown = []
    class Handle:
        def update(self, html): shown.append(("update", html.data))
    def display(html, display_id):
        shown.append(("display", html.data))
        return Handle()
    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(live, "_in_notebook", lambda: True)
    fit(tiny_learner(tiny_store, LiveCallback(n=1, size=8, seconds=0), tiny_gan(), n_iters=2), 3)
    assert [kind for kind, _ in shown] == ["display", "update", "update", "update"]   # the last when the fit ends
    assert "epoch 2" in shown[-1][1] and shown[-1][1].count("<figure") == 3 and shown[0][1].count("<figure") == 1


def test_nothing_is_displayed_without_a_kernel_and_drawings_are_rare(tiny_store, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(live, "_drawing", lambda *args, **kwargs: drawn.append(args) or "")
    fit(tiny_learner(tiny_store, LiveCallback(tmp_path/"run", n=1, size=8, seconds=1000), n_iters=2), 4)
    assert len(drawn) == 2 and len(drawn[-1][0]) == 4   # the first epoch and the end


def test_a_run_shows_its_own_previews_and_the_rows_before(tiny_store, tmp_path):
    "Nothing is painted twice, and a resumed run begins with what it had."
    write_picture(tmp_path/"preview"/"0_l1_epoch_0000.png", np.zeros((8, 24, 3), np.uint8))
    drawing = LiveCallback(tmp_path/"run", seconds=0)
    write = lambda name, save: save(tmp_path/"preview"/f"1_gan_{name}")
    history = HistoryCallback(tmp_path/"run", rows=[dict(stage="l1", epoch=-1, step=0, psnr=20.0)], about=dict(stage="gan"))
    learn = tiny_learner(tiny_store, PositionCallback(2, 4), history, PreviewCallback(tmp_path/"preview", n=1, size=8, write=write), drawing, n_iters=2)
    fit(learn, 2)
    assert list(drawing.frames) == ["0_l1_epoch_0000", "1_gan_epoch_0000", "1_gan_epoch_0001"]
    assert [(row["stage"], row["epoch"]) for row in drawing.rows] == [("l1", -1), ("gan", 0), ("gan", 1)]
    page = (tmp_path/"run"/"live.html").read_text()
    assert "gan epoch 1" in page and not re.search(r"""(?:src|href)\s*=\s*["']?(?!data:)\w|https?://""", page)


def test_the_page_is_loaded_anew_only_while_the_training_runs(tiny_store, tmp_path, monkeypatch):
    seen, write = [], live._write_live
    def noting(path, title, drawing, running):
        write(path, title, drawing, running)
        seen.append((running, "refresh" in path.read_text()))
    monkeypatch.setattr(live, "_write_live", noting)
    fit(tiny_learner(tiny_store, LiveCallback(tmp_path/"run", n=0, seconds=0), n_iters=2), 2)
    assert seen == [(True, True), (True, True), (False, False)]


def test_a_drive_that_vanishes_ends_nothing(tiny_store, tmp_path, capsys):
    drawing = LiveCallback(tmp_path/"run", n=1, size=8, seconds=0)
    (tmp_path/"run").rmdir()
    fit(tiny_learner(tiny_store, drawing, n_iters=2), 2)
    assert len(drawing.rows) == 2 and not (tmp_path/"run").exists() and "training goes on" in capsys.readouterr().out


def test_a_fit_changes_nothing_by_being_watched(tiny_store, tmp_path):
    import torch
    nets = [fit(tiny_learner(tiny_store, *cbs, n_iters=3), 2).model.state_dict() for cbs in ([], [LiveCallback(tmp_path/"run", n=1, size=8, seconds=0)])]
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def test_names_cannot_break_out():
    evil = "<script>alert(1)</script>"
    assert evil not in _drawing([dict(stage=evil, epoch=0, psnr=20.0), dict(stage=evil, epoch=1, psnr=21.0)], [(evil, "")])
