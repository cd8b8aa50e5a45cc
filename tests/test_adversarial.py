"Adversarial losses against formulas written with NumPy, at any logit, and the second derivative through every critic."
import numpy as np
import pytest
import torch

from paintsr_nb.nets.critics import CRITICS, make_critic
from paintsr_nb.losses.adversarial import ADVERSARIAL, critic_accuracy, feature_matching_loss, r1_penalty

SHAPES = [(5,), (4, 1), (2, 1, 6, 7)]


def log_sigmoid(x): return np.where(x > 0, -np.log1p(np.exp(-np.abs(x))), x - np.log1p(np.exp(-np.abs(x))))


def reference(kind, real, fake, mean=np.mean):
    "(critic, generator) in double precision."
    lower, log = lambda x: np.maximum(x, 0), lambda x: log_sigmoid(x).mean()
    if kind == "vanilla": return -(log(real) + log(-fake))/2, -log(fake)
    if kind == "lsgan": return (np.mean((real - 1)**2) + np.mean(fake**2))/2, np.mean((fake - 1)**2)
    if kind == "hinge": return (lower(1 - real).mean() + lower(1 + fake).mean())/2, -fake.mean()
    if kind == "relativistic": return -log(real - fake), -log(fake - real)
    return (-(log(real - mean(fake)) + log(mean(real) - fake))/2, -(log(mean(fake) - real) + log(fake - mean(real)))/2)


def logits(shape, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator)*scale + 0.5, torch.randn(shape, generator=generator)*scale - 0.5


@pytest.mark.parametrize("kind", ADVERSARIAL)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_the_formula(kind, shape):
    real, fake = logits(shape)
    wanted = reference(kind, real.double().numpy(), fake.double().numpy())
    assert [loss(real, fake).item() for loss in ADVERSARIAL[kind]] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("kind", ADVERSARIAL)
@pytest.mark.parametrize("far", [1e4, -1e4])
def test_far_logits_are_no_trouble(kind, far):
    for loss in ADVERSARIAL[kind]:
        real, fake = torch.tensor([far, 0.0, -far], requires_grad=True), torch.tensor([-far, far, 0.0], requires_grad=True)
        value = loss(real, fake)
        value.backward()
        wanted = reference(kind, real.detach().double().numpy(), fake.detach().double().numpy())[ADVERSARIAL[kind].index(loss)]
        assert value.item() == pytest.approx(wanted, rel=1e-5)
        for side in (real, fake): assert side.grad is None or torch.isfinite(side.grad).all()


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_gradient_is_the_numerical_one(kind):
    sides = [side.double().numpy() for side in logits((6,), seed=1)]
    for which, loss in enumerate(ADVERSARIAL[kind]):
        tensors = [torch.tensor(side, dtype=torch.float32, requires_grad=True) for side in sides]
        loss(*tensors).backward()
        for side in (0, 1):
            found = tensors[side].grad
            for place in range(6):
                step = np.zeros(6)
                step[place] = 1e-5
                up, down = ([other + sign*step if at == side else other for at, other in enumerate(sides)] for sign in (1, -1))
                numerical = (reference(kind, *up)[which] - reference(kind, *down)[which])/2e-5
                assert (0.0 if found is None else found[place].item()) == pytest.approx(numerical, abs=1e-4)


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_low_precision_logits_are_compared_in_float32(kind):
    real, fake = (side.bfloat16() for side in logits((2, 1, 5, 5)))
    with torch.autocast("cpu", torch.bfloat16):
        for loss in ADVERSARIAL[kind]:
            value = loss(real, fake)
            assert value.dtype == torch.float32 and value.item() == pytest.approx(loss(real.float(), fake.float()).item(), rel=1e-6)


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_the_roles(kind):
    "A critic that is right pays less than one that is wrong; the generator gains by a higher logit of a bad picture."
    critic_loss, generator_loss = ADVERSARIAL[kind]
    high, low = torch.tensor([1.0, 0.8]), torch.tensor([-1.0, -0.8])
    assert critic_loss(high, low) < critic_loss(low, high)
    assert generator_loss(high, low + 0.5) < generator_loss(high, low)
    if kind.startswith("relativistic"):
        assert generator_loss(high, low) == critic_loss(low, high)                  # the roles change places
        assert critic_loss(high + 7, low + 7).item() == pytest.approx(critic_loss(high, low).item(), rel=1e-5)   # only differences count
    if kind == "vanilla": assert critic_loss(high, low).item() == pytest.approx(critic_loss(-low, -high).item())
    if kind == "hinge": assert critic_loss(high*2, low*2) == 0


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_mean_is_honoured(kind):
    "Only the relativistic average compares with an average, and takes the one it is given, with its gradient."
    real, fake = logits((6,))
    for which, loss in enumerate(ADVERSARIAL[kind]):
        shifted = loss(real, fake, lambda values: values.mean() + 1.5).item()
        wanted = reference(kind, real.double().numpy(), fake.double().numpy(), lambda values: values.mean() + 1.5)[which]
        assert shifted == pytest.approx(wanted, rel=1e-5)
        assert (shifted != loss(real, fake).item()) == (kind == "relativistic_average")


def test_mean_over_halves_is_the_mean_of_the_whole():
    "Two processes with half a batch each and a shared average together have the loss of the whole batch."
    real, fake = logits((8, 1))
    for loss in ADVERSARIAL["relativistic_average"]:
        means = {True: real.mean(), False: fake.mean()}
        halves = []
        for half in (slice(0, 4), slice(4, 8)):
            own_real, own_fake = real[half], fake[half]
            halves.append(loss(own_real, own_fake, lambda values: means[values is own_real or torch.equal(values, own_real)]).item())
        assert np.mean(halves) == pytest.approx(loss(real, fake).item(), rel=1e-6)


def test_pairs_must_be_pairs():
    for call in (*ADVERSARIAL["relativistic"], lambda real, fake: critic_accuracy("relativistic", real, fake)):
        with pytest.raises(ValueError, match=r"real logits are \(4, 1\), fake ones \(2, 1\).*relativistic_average"): call(torch.zeros(4, 1), torch.zeros(2, 1))
    for kind in set(ADVERSARIAL) - {"relativistic"}:
        for loss in ADVERSARIAL[kind]: assert torch.isfinite(loss(torch.zeros(4, 1), torch.zeros(2, 1)))


@pytest.mark.parametrize("kind,wanted", [("vanilla", (2/4 + 3/4)/2), ("hinge", (2/4 + 3/4)/2), ("lsgan", (2/4 + 1)/2),
                                         ("relativistic_average", (3/4 + 3/4)/2), ("relativistic", 3/4)])
def test_accuracy_counts(kind, wanted):
    "Means -0.25 and -1.5, so the relativistic border is -0.875."
    real, fake = torch.tensor([2.0, 1.0, -0.5, -3.5]), torch.tensor([-4.0, 0.25, -1.25, -1.0])
    assert critic_accuracy(kind, real, fake).item() == pytest.approx(wanted)
    assert critic_accuracy(kind, real + 100, fake - 100) == 1 and critic_accuracy(kind, fake - 100, real + 100) == 0
    with pytest.raises(ValueError, match="choose one of vanilla, lsgan, hinge"): critic_accuracy("wgan", real, fake)


def test_accuracy_takes_the_given_mean():
    real, fake = torch.tensor([2.0]), torch.tensor([1.0])
    assert critic_accuracy("relativistic_average", real, fake) == 1
    assert critic_accuracy("relativistic_average", real, fake, lambda values: values.mean() + 5) == 0.5


@pytest.mark.parametrize("name", CRITICS)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_r1_differentiates_twice(name, mode):
    "The gradient by a weight is the numerical one of the penalty, in evaluation mode; in training it is finite and reaches the weights."
    torch.manual_seed(0)
    critic, high = getattr(make_critic(name, num_filters=4), mode)(), torch.rand(3, 3, 64, 64)
    for parameter in critic.parameters(): torch.nn.init.normal_(parameter, std=0.2) if parameter.ndim > 1 else None
    if mode == "eval":
        critic.double()
        original, high = torch.Tensor.float, high.double()
        with pytest.MonkeyPatch.context() as patch:   # float32 would leave the numerical gradient too few digits
            patch.setattr(torch.Tensor, "float", lambda tensor: tensor)
            penalty = r1_penalty(critic, high)
            penalty.backward()
            weight = next(parameter for parameter in critic.parameters() if parameter.ndim > 1)
            direction = weight.grad/weight.grad.norm()
            values = []
            for sign in (1, -1):
                with torch.no_grad(): weight += sign*1e-6*direction
                values.append(r1_penalty(critic, high).item())
                with torch.no_grad(): weight -= sign*1e-6*direction
        assert torch.Tensor.float is original
        assert weight.grad.norm().item() == pytest.approx((values[0] - values[1])/2e-6, rel=1e-2)
        return
    penalty = r1_penalty(critic, high)
    penalty.backward()
    reached = [parameter.grad for parameter in critic.parameters() if parameter.ndim > 1]
    assert penalty.item() > 0 and all(grad is not None and torch.isfinite(grad).all() and grad.abs().sum() > 0 for grad in reached)
    assert high.grad is None and not high.requires_grad


def test_r1_is_half_the_squared_length_a_picture():
    "D(x) = Σ a_i x_i²/2 has the gradient a·x; a logit a place is summed, and pictures are averaged."
    torch.manual_seed(0)
    factors, high = torch.rand(3, 6, 6), torch.rand(4, 3, 6, 6)
    wanted = ((factors*high)**2).sum((1, 2, 3)).mean()/2
    for critic in (lambda x: (factors*x**2/2).sum((1, 2, 3)), lambda x: factors*x**2/2, lambda x: (factors*x**2/2).sum(1, keepdim=True)):
        assert r1_penalty(critic, high).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_r1_runs_without_autocast():
    torch.manual_seed(0)
    critic, high = make_critic("unet", num_filters=4).eval(), torch.rand(1, 3, 32, 32)
    exact = r1_penalty(critic, high).item()
    with torch.autocast("cpu", torch.bfloat16): assert r1_penalty(critic, high).item() == exact
    assert r1_penalty(critic, high.bfloat16()).dtype == torch.float32


def test_feature_matching():
    torch.manual_seed(0)
    real, fake = ([torch.rand(2, width, 9 - width, 5, requires_grad=True) for width in (3, 4, 5)] for _ in range(2))
    value = feature_matching_loss(real, fake)
    assert value.item() == pytest.approx(np.mean([np.abs(a.detach().numpy() - b.detach().numpy()).mean() for a, b in zip(real, fake)]), rel=1e-5)
    value.backward()
    assert all(side.grad is None for side in real) and all(side.grad.abs().sum() > 0 for side in fake)
    assert feature_matching_loss(real, real) == 0 and feature_matching_loss([real[0].bfloat16()], [fake[0].bfloat16()]).dtype == torch.float32
    for wrong in (([], []), (real, fake[:2])):
        with pytest.raises(ValueError, match="the same layers of both"): feature_matching_loss(*wrong)
