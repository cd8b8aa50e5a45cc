"One tiny learner on brush strokes that the training tests share: a fit takes about a second."
import torch

from paintsr_nb.data.patches import sr_dls
from paintsr_nb.nets.critics import UNetCritic
from paintsr_nb.nets.generators import make_generator
from paintsr_nb.nets.modes import Mode
from paintsr_nb.training.gan import GANCallback
from paintsr_nb.training.learner import seed_everything, sr_learner
from paintsr_nb.losses.fidelity import SRLoss


def tiny_learner(store, *callbacks, loss=None, n_iters=6, bs=2, net=None, seed=0, num_workers=0, lr=1e-3, precision="fp32", **kwargs):
    "A generator of 8 channels on 8 px crops."
    seed_everything(seed)
    dls = sr_dls(store, low_size=8, bs=bs, n_iters=n_iters, valid_size=12, num_workers=num_workers, device="cpu")
    net = net or make_generator("compact", num_filters=8, num_blocks=1)
    return sr_learner(dls, net, loss or SRLoss(), lr=lr, mode=Mode(precision), cbs=list(callbacks), **kwargs)


def tiny_gan(critic=None, **kwargs):
    "A critic's callback with a part large enough to be seen within a few steps."
    torch.manual_seed(1)
    return GANCallback(critic or UNetCritic(num_filters=4), **{"weight": 0.1, "lr": 1e-3, **kwargs})


def fit(learn, epochs=1, **kwargs):
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs, **kwargs)
    return learn


def copies(net): return {name: value.detach().clone() for name, value in net.state_dict().items()}


def same(a, b): return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
