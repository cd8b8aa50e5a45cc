"""Plant defects in a copy of the package, and see the proofs in `tests/` turn red.

    python tools/mutate.py              every mutant; exit status 1 where one survives
    python tools/mutate.py NAME ...     the mutants whose names begin so

A proof that no defect can turn red proves nothing. Each mutant is a usual mistake of training code: one text of one module
is replaced by another, and of every test named beside it an assertion must fail. A crash proves nothing either and is
reported as `broken`. The tests run in forked processes, which inherit PyTorch and fastai: only the first start is slow.
"""
import argparse
import gc
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("fastai.callback.all", "fastai.data.all", "torch._dynamo", "torch.testing", "spandrel", "scipy.signal", "skimage.metrics", "pandas", "pytest")   # what a child need not import again
SECONDS = 300   # what hangs longer is broken
OUTCOMES = ("GREEN", "broken", "red", "partly")   # 1 is what Python ends with after an error; partly: one of the tests does not see it


class Mutant(NamedTuple):
    "A defect, and the tests that are there to find it."
    name:str # One word
    file:str # Module, relative to the package
    old:str # Text that occurs there exactly once
    new:str # The defect
    tests:str # Tests in `tests/`, between blanks; each must fail


LOSSES, ADVERSARIAL, PERCEPTUAL = (f"losses/{name}.py" for name in ("fidelity", "adversarial", "perceptual"))
GAN, LEARNER, CALLBACK, AVERAGE, PRECISION = (f"training/{name}.py" for name in ("gan", "learner", "callback", "average", "precision"))
RUN, CHECKPOINT, GUARD, TRAIN = (f"training/{name}.py" for name in ("run", "checkpoint", "guard", "train"))

MOVES = "test_gan.py::test_the_adversarial_term_alone_moves_the_generator"
FORMULA = "test_gan.py::test_the_gradient_is_that_of_the_formula"
LEAK = "test_gan.py::test_row_09_a_step_of_one_net_leaves_the_other_alone"
ZERO = "test_gan.py::test_weight_0_is_the_plain_learner_bit_for_bit"
PARTS = "test_gan.py::test_parts_sum_to_what_is_back_propagated"
REFERENCE = "test_adversarial.py::test_is_the_formula"
BATCH = "test_gan.py::test_both_nets_see_the_same_batch"
AVERAGE_TEST = "test_gan.py::test_row_20_the_average_is_validated_and_saved"
EMA = "test_gan.py::test_the_average_is_the_formula"
ACCUMULATED = "test_gan.py::test_accumulated_batches_are_one_large_batch"
CLIP = "test_gan.py::test_clip_bounds_both_nets"
FIND = "test_gan.py::test_lr_find_puts_everything_back"
RESUME = "test_training.py::test_resume_is_exact[gan-mid-epoch]"
LATE = "test_training.py::test_resume_is_exact[gan-mid-last-epoch]"
RANGE = "test_perceptual.py::test_one_look_at_the_range"
ONCE = "test_gan.py::test_the_generator_runs_once_a_batch"
MIXED = "test_gan.py::test_mixed_precision_is_mixed"
BEST = "test_training.py::test_saved_model_is_the_best_average_so_far"
SCORED = "test_training.py::test_the_best_is_the_best_of_all_that_was_scored"
PUT_BACK = "test_guard.py::test_what_is_put_back_is_the_last_good_state"

BEGIN = "def before_batch(self): self.asked"
JUDGE = "real, fake = self.learn.y, self.learn.pred.detach()"
ADD = "learn.loss_grad = learn.loss_grad + weight*value"

MUTANTS = [
    # 1. The adversarial term alone moves the generator
    Mutant("term-detached", GAN, "self.opinion(learn.y, learn.pred)", "self.opinion(learn.y, learn.pred.detach())", f"{MOVES} {FORMULA}"),
    Mutant("term-not-added", GAN, ADD, "pass", f"{MOVES} {FORMULA} {PARTS}"),
    Mutant("term-reversed", GAN, ADD, "learn.loss_grad = learn.loss_grad - weight*value", f"{MOVES} {FORMULA} {PARTS}"),
    Mutant("term-unweighted", GAN, ADD, "learn.loss_grad = learn.loss_grad + value", f"{FORMULA} {PARTS}"),
    # 2. A step of one net leaves the other alone
    Mutant("leak-to-generator", GAN, JUDGE, "real, fake = self.learn.y, self.learn.model(self.learn.x).float()", f"{LEAK} {ONCE}"),
    Mutant("leak-to-critic", GAN, "{name: parameter.detach() for", "{name: parameter for", LEAK),
    Mutant("leak-to-critic-buffers", GAN, "{name: buffer.clone() for", "{name: buffer for", LEAK),
    Mutant("optimiser-lacks-a-weight", GAN, "adam(critic.parameters(), ", "adam([*critic.parameters()][1:], ", "test_gan.py::test_both_nets_learn"),
    Mutant("critic-never-steps", GAN, "if not self.waits: self.step()", "pass", "test_gan.py::test_both_nets_learn"),
    # 3. Weight 0 is the plain learner
    Mutant("zero-leaves-a-trace", GAN, ADD, "learn.loss_grad = learn.loss_grad + (weight + 1e-3)*value", f"{ZERO} {PARTS}"),
    Mutant("zero-draws-a-number", GAN, BEGIN, f"def before_epoch(self): torch.rand(1)\n\n    {BEGIN}", ZERO),
    Mutant("zero-changes-the-prediction", GAN, BEGIN, f"def after_pred(self): self.learn.pred = self.learn.pred*0.999\n\n    {BEGIN}", ZERO),
    # 4. Parts sum to what is back-propagated
    Mutant("part-of-another-weight", GAN, "{name: (value.detach(), weight) for", "{name: (value.detach(), self.weight) for", PARTS),
    Mutant("part-left-out", GAN, "in opinion.values(): learn", "in [*opinion.values()][:1]: learn", PARTS),
    Mutant("picture-part-noted-wrong", LOSSES, "{name: (value.detach(), self.weights[name])", "{name: (value.detach(), 1.0)", f"{PARTS} test_losses.py::test_parts_sum_and_gradient_reaches_the_picture"),
    Mutant("picture-part-unweighted", LOSSES, "sum(self.weights[name]*value for", "sum(value for", f"{PARTS} test_losses.py::test_parts_sum_and_gradient_reaches_the_picture"),
    # 5. Each adversarial loss is its formula
    Mutant("vanilla-labels-swapped", ADVERSARIAL, "F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()", "F.softplus(real.float()).mean() + F.softplus(-fake.float()).mean()", f"{REFERENCE} test_adversarial.py::test_the_roles"),
    Mutant("vanilla-saturates", ADVERSARIAL, "return F.softplus(-fake.float()).mean()", "return -F.softplus(fake.float()).mean()", REFERENCE),
    Mutant("lsgan-half-missing", ADVERSARIAL, "fake.float().square().mean())/2", "fake.float().square().mean())", REFERENCE),
    Mutant("lsgan-target-0", ADVERSARIAL, "return (fake.float() - 1).square().mean()", "return fake.float().square().mean()", REFERENCE),
    Mutant("hinge-margin-missing", ADVERSARIAL, "F.relu(1 + fake.float())", "F.relu(fake.float())", REFERENCE),
    Mutant("hinge-sign", ADVERSARIAL, "return -fake.float().mean()", "return fake.float().mean()", f"{REFERENCE} test_adversarial.py::test_the_roles"),
    Mutant("relativistic-pairs-swapped", ADVERSARIAL, "F.softplus(fake.float() - real.float())", "F.softplus(real.float() - fake.float())", REFERENCE),
    Mutant("relativistic-same-for-both", ADVERSARIAL, "return relativistic_critic_loss(fake, real)", "return relativistic_critic_loss(real, fake)", REFERENCE),
    Mutant("average-missing", ADVERSARIAL, "F.softplus(mean(fake) - real)", "F.softplus(fake - real)", f"{REFERENCE} test_adversarial.py::test_mean_is_honoured"),
    Mutant("average-half-the-generator", ADVERSARIAL, "return relativistic_average_critic_loss(fake, real, mean)", "return F.softplus(mean(real.float()) - fake.float()).mean()", f"{REFERENCE} test_adversarial.py::test_gradient_is_the_numerical_one"),
    Mutant("overflow", ADVERSARIAL, "F.softplus(-real.float()).mean() + ", "(1 + (-real.float()).exp()).log().mean() + ", "test_adversarial.py::test_far_logits_are_no_trouble"),
    Mutant("r1-half-missing", ADVERSARIAL, ".sum(1).mean()/2", ".sum(1).mean()", "test_adversarial.py::test_r1_is_half_the_squared_length_a_picture"),
    Mutant("matching-teaches-the-critic", ADVERSARIAL, "real.detach().float()).abs()", "real.float()).abs()", "test_adversarial.py::test_feature_matching"),
    # 6. Both nets see the same batch
    Mutant("critic-sees-it-mirrored", GAN, JUDGE, "real, fake = self.learn.y.flip(-1), self.learn.pred.detach()", BATCH),
    Mutant("critic-sees-the-last-batch", GAN, JUDGE, "real, fake, self.shown = self.learn.y, getattr(self, 'shown', self.learn.pred.detach()), self.learn.pred.detach()", BATCH),
    Mutant("critic-sees-it-after-the-step", GAN, JUDGE, "real, fake = self.learn.y, self.learn.model(self.learn.x).detach().float()", f"{BATCH} {ONCE} {FORMULA}"),
    Mutant("critic-sides-swapped", GAN, JUDGE, "fake, real = self.learn.y, self.learn.pred.detach()", FORMULA),
    # 7. The average is what is validated and saved
    Mutant("average-not-worn", AVERAGE, "bare(self.learn.model).load_state_dict(self.average)", "pass", AVERAGE_TEST),
    Mutant("average-not-worn-at-the-end", AVERAGE, "if self.before_find is None: return self.lend()", "if self.before_find is None: return self.take_back()", AVERAGE_TEST),
    Mutant("average-trained-on", AVERAGE, "if worn: net.load_state_dict(self.own)", "if worn: pass", AVERAGE_TEST),
    Mutant("average-begins-again", AVERAGE, "if self.average is None: self.average", "self.average", EMA),
    Mutant("average-not-warmed-up", AVERAGE, "min(self.decay, (1 + self.n_steps)/(10 + self.n_steps))", "self.decay", EMA),
    Mutant("average-sides-swapped", AVERAGE, "for name in floats], 1 - decay)", "for name in floats], decay)", EMA),
    Mutant("model-of-own-weights", CHECKPOINT, "plain_copy(averaged_weights(self.learn))", "plain_copy(own_weights(self.learn))", BEST),
    # 8. Accumulated batches are one large batch
    Mutant("share-missing", GAN, "loss*self.share_of_step()", "loss", ACCUMULATED),
    Mutant("critic-steps-each-batch", GAN, "if not self.waits: self.step()", "self.step()", ACCUMULATED),
    Mutant("gradient-carried-over", GAN, "    self.optimiser.zero_grad()\n    self.n_steps += 1", "    self.n_steps += 1", FORMULA),
    # 9. float16: one scaler for each net, undone before the gradient is looked at
    Mutant("scaler-shared", GAN, "return self.loss_scale.on(self.learn.pred.device.type, self.dtype)", "self.loss_scale = self.learn.precision.loss_scale; return self.learn.precision.scaler", MIXED),
    Mutant("critic-clipped-scaled", GAN, "self.scaler.unscale_(self.optimiser)", "pass", f"{CLIP}[fp16]"),
    Mutant("generator-clipped-scaled", PRECISION, "order, run_valid = MixedPrecision.order, False", "order, run_valid = MixedPrecision.order + 2, False", f"{CLIP}[fp16]"),
    Mutant("critic-not-clipped", GAN, "if (clip := find_callback(self.learn, GradientClip)):", "if (clip := None):", CLIP),
    Mutant("overflow-stepped", PRECISION, "if not self.stepped: raise CancelStepException()", "pass", "test_gan.py::test_fp16_leaves_out_a_step_that_overflows"),
    # 10. The learning-rate finder puts the critic and the average back
    Mutant("find-keeps-the-critic", GAN, "if self.before_find is not None: self.load_state_dict(self.before_find)", "pass", FIND),
    Mutant("find-remembers-no-copy", GAN, "copy.deepcopy(self.state_dict())", "self.state_dict()", FIND),
    Mutant("find-keeps-the-average", AVERAGE, "if self.finding: self.before_find", "if False: self.before_find", FIND),
    # 11. A run that was cut goes on exactly
    Mutant("resume-critic", GAN, "self.critic.load_state_dict(state[\"critic\"])", "pass", RESUME),
    Mutant("resume-critic-optimiser", GAN, "self.optimiser.load_state_dict(state[\"optimiser\"])", "pass", RESUME),
    Mutant("resume-optimiser", CHECKPOINT, "learn.opt.load_state_dict(state[\"optimiser\"])", "pass", RESUME),
    Mutant("resume-average", AVERAGE, "for name, value in average.items()}\n        self.own", "for name, value in weights.items()}\n        self.own", RESUME),
    Mutant("resume-random-states", CHECKPOINT, "set_random_states(self.random)", "pass", LATE),
    Mutant("resume-batch", CALLBACK, "loader.start = self.batch", "loader.start = 0", RESUME),
    Mutant("resume-pass", CALLBACK, "loader.epoch = self.first_pass + self.stage_epoch - 1", "pass", LATE),
    Mutant("resume-position", CALLBACK, "self.stage_epoch, self.batch, self.steps = state[\"stage_epoch\"], state[\"batch\"], state[\"steps\"]", "pass", RESUME),
    Mutant("resume-sums", LEARNER, "self.sums, self.counts, self.resumed = dict(state[\"sums\"]), dict(state[\"counts\"]), True", "pass", RESUME),
    Mutant("resume-smooth-loss", CHECKPOINT, "smooth.val, smooth.count = self", "_ = self", RESUME),
    Mutant("resume-history", CHECKPOINT, "self.rows, self.smooth = list(state[\"rows\"]), state[\"smooth\"]", "self.smooth = state[\"smooth\"]", RESUME),
    Mutant("resume-best", CHECKPOINT, "self.value, self.best_weights, self.best_step, self.kept = state[\"value\"], state[\"weights\"], state[\"step\"], state[\"kept\"]", "pass", "test_training.py::test_a_resumed_run_remembers_its_best"),
    # 12. Perceptual features are the trained net's
    Mutant("normalisation-missing", PERCEPTUAL, "x, kept = (x.float() - self.mean)/self.std, {}", "x, kept = x.float(), {}", "test_perceptual.py::test_features_are_the_packages"),
    Mutant("layer-after-activation", PERCEPTUAL, "places[f\"conv{block}_{number}\"] = index", "places[f\"conv{block}_{number}\"] = index + 1", "test_perceptual.py::test_features_before_and_after_activation test_perceptual.py::test_vgg19_layers_are_where_torchvision_has_them"),
    Mutant("activation-in-place", PERCEPTUAL, "layer.inplace = False", "layer.inplace = True", "test_perceptual.py::test_features_before_and_after_activation"),
    Mutant("range-of-sr-not-checked", PERCEPTUAL, "if ends[0] >= 0 and ends[1] > 16:", "if False:", RANGE),
    Mutant("range-of-hr-not-checked", PERCEPTUAL, "if not (-0.5 <= ends[2] and ends[3] <= 1.5) else []", "if False else []", RANGE),
    # 13. The best so far
    Mutant("start-not-scored", CHECKPOINT, "self.offer(scores, 0)", "pass", SCORED),
    Mutant("best-is-the-last", RUN, "SCORES[score]*(value - best) > 0", "True", SCORED),
    Mutant("best-is-the-worst", RUN, "SCORES[score]*(value - best) > 0", "SCORES[score]*(value - best) < 0", f"{BEST} {SCORED}"),
    Mutant("distance-reversed", RUN, "distance=-1", "distance=1", SCORED),
    # 14. The guard notices, and puts everything back
    Mutant("nan-loss-not-noticed", GUARD, "if not (math.isfinite(loss) and math.isfinite(seen)):", "if False:",
           "test_guard.py::test_row_04_one_non_finite_step_is_left_out[loss]"),
    Mutant("nan-forgotten", GUARD, "    self.struck = True\n", "    pass\n", "test_guard.py::test_row_04_the_second_puts_both_nets_back_at_half_the_rate"),
    Mutant("nan-gradient-not-noticed", GUARD, "if not math.isfinite(float(norm)):", "if False:", "test_guard.py::test_row_04_one_non_finite_step_is_left_out[gradient]"),
    Mutant("critic-not-put-back", GAN, "order, run_valid, rolls_back = MixedPrecision.order - 5, False, True", "order, run_valid = MixedPrecision.order - 5, False", PUT_BACK),
    Mutant("average-not-put-back", AVERAGE, "order, rolls_back = 65, True", "order = 65", PUT_BACK),
    Mutant("optimiser-not-put-back", CHECKPOINT, "learn.opt.load_state_dict(state[\"optimiser\"])", "pass", PUT_BACK),
    Mutant("rate-not-halved", GUARD, "else: self.slow.factor /= 2", "else: pass", "test_guard.py::test_row_04_the_second_puts_both_nets_back_at_half_the_rate"),
    Mutant("explosion-not-noticed", GUARD, "if abs(seen) > self.explosion*max(usual, 1e-6):", "if False:", "test_guard.py::test_row_04_an_exploding_loss_is_put_back_at_once"),
    # 15. One protocol, one owner of the rates
    Mutant("factor-ignored", LEARNER, "[self.factor*rate for rate in rates]", "rates", "test_callbacks.py::test_one_owner_of_the_rates"),
    Mutant("critic-factor-ignored", LEARNER, "self.factor*self.critic_factor*rate", "self.factor*rate", "test_callbacks.py::test_one_owner_of_the_rates"),
    Mutant("schedule-ignored", LEARNER, "if self.generator_rate: rates =", "if False: rates =", "test_callbacks.py::test_one_owner_of_the_rates"),
    Mutant("users-state-not-loaded", CHECKPOINT, "for name, remembered in state[\"callbacks\"].items(): callbacks[name].load_state_dict(remembered)", "pass",
           "test_callbacks.py::test_it_is_saved_resumed_and_put_back test_callbacks.py::test_the_guard_asks_it_to_forget_and_puts_it_back"),
    Mutant("nobody-asked-to-forget", GUARD, "for cb in sr_callbacks(self.learn): cb.leave_out()", "pass", "test_callbacks.py::test_the_guard_asks_it_to_forget_and_puts_it_back"),
    Mutant("users-part-without-weight", LEARNER, "abs(row[name]*weight)", "abs(row[name])", "test_callbacks.py::test_a_callback_of_ones_own_has_its_columns"),
]


def folder_of(mutant, whole):
    "A copy of the folder `whole`, with the defect where there is one."
    folder = whole.with_name(mutant.name if mutant else "no-defect")
    shutil.copytree(whole, folder)
    if mutant:
        file = folder/"paintsr_nb"/mutant.file
        file.write_text(file.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
    return folder


def check_fresh(mutants, whole):
    "The text that a mutant replaces must occur once, else it is about code that is no more."
    counts = {mutant: (whole/"paintsr_nb"/mutant.file).read_text(encoding="utf-8").count(mutant.old) for mutant in mutants}
    stale = [f"{mutant.name}: {mutant.old!r} occurs {count} times in {mutant.file}, expected once" for mutant, count in counts.items() if count != 1]
    if stale: sys.exit("mutants have gone stale, write them anew:\n" + "\n".join(stale))


class Witness:
    "Notes which tests failed by an assertion of their own, and which by anything else."
    def __init__(self, folder): self.tests, self.folder, self.failed, self.crashed = folder/"tests", folder, [], []

    def pytest_exception_interact(self, node, call, report):
        asserted = call.when == "call" and call.excinfo.errisinstance((AssertionError, sys.modules["pytest"].fail.Exception))
        ours = [Path(entry.path) for entry in call.excinfo.traceback if self.folder in Path(entry.path).parents]
        (self.failed if asserted and self.tests in ours[-1].parents else self.crashed).append(node.nodeid)


def child(folder, tests):
    "Run tests in a copy; the exit status tells the outcome."
    import pytest
    signal.alarm(SECONDS)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    import paintsr_nb
    if Path(paintsr_nb.__file__).parent != folder/"paintsr_nb": sys.exit(f"{paintsr_nb.__file__} was imported, not the copy")
    witness = Witness(folder)
    with open(folder/"log", "w") as log, redirect_stdout(log), redirect_stderr(log):
        code = pytest.main(["-q", "-p", "no:cacheprovider", "--basetemp", str(folder/"pytest"), *tests], plugins=[witness])
    found = [any(one == test or one.startswith(f"{test}[") for one in witness.failed) for test in tests]
    outcome = "GREEN" if code == 0 else "red" if all(found) else "broken" if witness.crashed or code > 1 else "partly"
    sys.exit(OUTCOMES.index(outcome))


def run(mutant, tests, whole):
    "Outcome of some tests, and what pytest said."
    folder = folder_of(mutant, whole)
    process = multiprocessing.get_context("fork").Process(target=child, args=(folder, [f"tests/{test}" for test in tests]))
    process.start()
    process.join()
    log = folder/"log"
    said = log.read_text(encoding="utf-8") if log.exists() else ""
    shutil.rmtree(folder)
    return OUTCOMES[process.exitcode] if process.exitcode in range(4) else "broken", said


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="beginning of the names of mutants; none: all")
    names = parser.parse_args().names
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name.startswith(tuple(names))]
    if not chosen: parser.error(f"no such mutant: choose from {', '.join(mutant.name for mutant in MUTANTS)}")
    os.environ.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", MPLBACKEND="agg", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")   # the proofs are about small nets on the CPU
    sys.dont_write_bytecode = True
    with warnings.catch_warnings(action="ignore"):
        for name in HEAVY: importlib.import_module(name)
    gc.freeze()   # what is shared with the children is not looked through in each
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants_") as parent:
        whole = Path(parent).resolve()/"whole"   # as it is now, whatever is edited meanwhile
        for name in ("paintsr_nb", "tests"): shutil.copytree(ROOT/name, whole/name, ignore=shutil.ignore_patterns("__pycache__"))
        check_fresh(chosen, whole)
        outcome, said = run(None, list(dict.fromkeys(test for mutant in chosen for test in mutant.tests.split())), whole)
        if outcome != "GREEN" or " passed" not in said: sys.exit(f"{said}\nthe tests fail without any defect: repair them first")
        print(f"without a defect: {said.strip().splitlines()[-1]}", flush=True)
        survivors = []
        for mutant in chosen:
            start = time.monotonic()
            outcome, said = run(mutant, mutant.tests.split(), whole)
            print(f"{mutant.name:30} {outcome:6} {time.monotonic() - start:5.1f} s  {mutant.tests}", flush=True)
            if outcome != "red":
                survivors.append(mutant.name)
                print(*said.splitlines()[-30:], sep="\n")
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants found in {time.monotonic() - begun:.0f} s")
    if survivors: sys.exit(f"not found: {', '.join(survivors)}")


if __name__ == "__main__": main()
