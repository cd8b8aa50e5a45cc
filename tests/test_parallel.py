"""Several processes do what one does: two gloo processes against one with the doubled batch, and what goes wrong when a safeguard is missing.

Not in the notebook because every test here launches processes."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

pytest.importorskip("accelerate")

import parallel_script
from paintsr_nb.training.run import load_checkpoint
from paintsr_nb.training.parallel import start_parallel

SCRIPT = Path(parallel_script.__file__)
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
# A loss relative to the mean of the other kind does not depend on what is added to every logit: the last bias has no gradient but noise, which Adam makes large.
NO_GRADIENT = "conv9.bias"


def launched(launcher, *arguments, **env):
    "Run a program in two processes without a card."
    env = os.environ | dict(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", PYTHONWARNINGS="ignore") | env
    done = subprocess.run([sys.executable, *launcher, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=600)
    assert not done.returncode, done.stderr[-6000:]
    return done


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def both_ranks(store, folder, launcher, *names):
    launched(launcher, SCRIPT, store.path, folder, *names)
    return [torch.load(folder/f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def quick(tiny_store, tmp_path_factory): return both_ranks(tiny_store, tmp_path_factory.mktemp("quick"), TORCHRUN, "gan", "mean", "refusal", "cancelled")


@pytest.fixture(scope="module")
def thorough(tiny_store, tmp_path_factory):
    return both_ranks(tiny_store, tmp_path_factory.mktemp("thorough"), ACCELERATE, *parallel_script.FITS, "no_mean", "no_wrapping")


@pytest.fixture(scope="module")
def alone(tiny_store):
    "Each fit in this one process, with the whole batch; made when asked for."
    found = {}
    def get(name):
        if name not in found: found[name] = parallel_script.FITS[name](tiny_store, None)
        return found[name]
    return get


def difference(one, two):
    "The largest difference of two state dicts, relative to the largest value of its tensor."
    assert set(one) == set(two)
    return max(((two[name] - value).abs().max()/value.abs().max()).item() for name, value in one.items() if name != NO_GRADIENT)


def assert_same_training(pair, alone, tolerance=1e-4):
    nets = [net for net in ("generator", "average", "critic") if net in alone]
    for net in nets:
        assert difference(alone[net], pair[0][net]) < tolerance, net
        assert all(torch.equal(value, pair[1][net][name]) for name, value in pair[0][net].items()), f"the ranks have different weights of the {net}"


def test_row_14_two_processes_train_both_nets_as_one_does(quick, alone): assert_same_training([rank["gan"] for rank in quick], alone("gan"))


def test_the_mean_of_two_ranks_and_its_gradient_are_those_of_the_whole(quick):
    whole = parallel_script.mean_and_gradient(0, 1)
    for rank in quick:
        for name, value in whole.items(): torch.testing.assert_close(rank["mean"][name], value)


def test_the_history_speaks_of_the_whole_batch(quick, alone):
    one = alone("gan")["history"]
    for rank in quick:
        two = rank["gan"]["history"]
        assert set(one) == set(two)
        # logits float with the bias that has no gradient, and with them the accuracy about a middle of its own
        for name in set(one) - {"critic_real", "critic_fake", "critic_accuracy"}: assert two[name] == pytest.approx(one[name], rel=1e-3), name
        assert two["critic_real"] - two["critic_fake"] == pytest.approx(one["critic_real"] - one["critic_fake"], rel=1e-3)
    assert quick[0]["gan"]["history"] == quick[1]["gan"]["history"]


def test_others_see_the_bare_net_and_nothing_stays_wrapped(quick):
    for rank in quick:
        assert rank["gan"]["seen"] == ["Compact"]
        assert (rank["gan"]["wrapped"], rank["gan"]["judge"]) == ("Compact", "Both")
        assert not [name for net in ("generator", "average", "critic") for name in rank["gan"][net] if name.startswith("module.")]


def test_when_one_process_stops_all_do(quick):
    for rank in quick: assert rank["cancelled"] == dict(batches=2, model="Compact", judge="Both", mean=True)


def test_batch_norm_on_a_cpu_is_refused_with_the_way_out(quick):
    for rank in quick: assert "the critic has batch norm" in rank["refusal"] and "norm='none'" in rank["refusal"]


@pytest.mark.slow
@pytest.mark.parametrize("name", parallel_script.FITS)
def test_every_kind_of_training_is_that_of_one_process(thorough, alone, name): assert_same_training([rank[name] for rank in thorough], alone(name))


@pytest.mark.slow
def test_without_the_common_mean_it_is_another_training(thorough, alone):
    assert difference(alone("gan")["generator"], thorough[0]["no_mean"]["generator"]) > 1e-3


@pytest.mark.slow
def test_without_its_own_wrapping_the_critic_becomes_two(thorough, alone):
    assert difference(alone("gan")["critic"], thorough[0]["no_wrapping"]["critic"]) > 1e-2
    assert difference(thorough[0]["no_wrapping"]["critic"], thorough[1]["no_wrapping"]["critic"]) > 1e-2


@pytest.fixture(scope="module")
def straight(tiny_store, tmp_path_factory):
    "A run of two processes that nobody cut."
    run = tmp_path_factory.mktemp("runs")/"straight"
    done = launched(ACCELERATE, SCRIPT, tiny_store.path, run, "train")
    assert sorted(re.findall(r"rank (\d) is through", done.stdout)) == ["0", "1"]
    return run


def end(run): return load_checkpoint(run/"checkpoints"/"1_gan.pt")


def weights(state): return dict(generator=state["generator"], average=state["callbacks"]["ema"]["average"], critic=state["callbacks"]["gan"]["critic"])


@pytest.mark.slow
def test_a_run_of_two_processes_is_that_of_one(straight, tiny_store, tmp_path):
    one, two = weights(end(parallel_script.follow(tiny_store, tmp_path/"one", 1))), weights(end(straight))
    for net in one: assert difference(one[net], two[net]) < 1e-3, net
    tables = [pd.read_csv(run/"history.csv") for run in (tmp_path/"one", straight)]
    for name in ("step", "train_loss", "l1", "ssim_loss", "adversarial", "valid_loss", "psnr", "ssim"):
        assert tables[0][name].to_numpy() == pytest.approx(tables[1][name].to_numpy(), rel=1e-3, nan_ok=True), name


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(0, 1), (1,)], ids=["both", "one"])
def test_a_run_that_is_stopped_goes_on_exactly(straight, tiny_store, tmp_path, stops):
    "Also where one process alone is asked to stop: all end after the same step. Then the run goes on to the very bits."
    run = tmp_path/"run"
    launched(ACCELERATE, SCRIPT, tiny_store.path, run, "train", *stops)
    state = load_checkpoint(run/"checkpoints"/"last.pt")
    assert not (run/"checkpoints"/"1_gan.pt").exists() and state["callbacks"]["position"]["steps"] in (2, 3)
    launched(ACCELERATE, SCRIPT, tiny_store.path, run, "train", "resume")
    one, two = weights(end(straight)), weights(end(run))
    for net in one: assert all(torch.equal(value, two[net][name]) for name, value in one[net].items()), net
    tables = [pd.read_csv(folder/"history.csv").drop(columns="time") for folder in (straight, run)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_alone_there_is_nothing_to_join_and_accelerate_is_not_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)   # importing it would fail
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert start_parallel() is None
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert start_parallel() is None


def test_without_accelerate_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ModuleNotFoundError, match=r"2 processes were launched .* pip install paintsr_nb\[parallel\]"): start_parallel()


def test_a_launch_that_starts_one_process_only_is_reported(monkeypatch):
    for name, value in dict(ACCELERATE_USE_CPU="True", MASTER_PORT="29500").items(): monkeypatch.setenv(name, value)
    for name in ("RANK", "WORLD_SIZE"): monkeypatch.delenv(name, raising=False)
    with pytest.warns(UserWarning, match="use --multi_gpu instead"): assert start_parallel() is None
