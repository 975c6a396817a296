"""Two formulations: by gathering the batch's centers, updated in place with alpha / (1 + count),
which is what ours computes; and the widely used one of a B x C matrix of distances, whose centers are
a parameter that SGD updates. The latter's step for 1,000,000 classes needs more than 10 GB: it is
measured at 100,000 classes and multiplied by ten, and its name says so."""
import functools

import torch

BATCH, FEATURES, ALPHA = 256, 512, 0.5


@functools.cache
def centers_of(classes):
    return torch.rand(classes, FEATURES) * 0.1 - 0.05


def same(y):
    return (y[:, None] == y[None, :]).sum(1)


def bins(y):
    return torch.bincount(y)[y]


def unique(y):
    _, inverse, counts = torch.unique(y, return_inverse=True, return_counts=True)
    return counts[inverse]


def gather_step(classes, count, compiled=False):
    centers = centers_of(classes)
    x = torch.randn(BATCH, FEATURES, requires_grad=True)
    y = torch.randint(0, classes, (BATCH,))

    def value(x, y, centers):
        with torch.no_grad():
            move = (centers[y] - x) * (-ALPHA / (1 + count(y)))[:, None]
            centers.index_add_(0, y, move)
        return (0.5 * (x - centers[y]).square().sum(1)).mean()

    run = torch.compile(value) if compiled else value

    def step():
        x.grad = None
        run(x, y, centers).backward()

    return step


class Scaled:
    """A step whose time is multiplied."""

    def __init__(self, step, scale):
        self.step, self.scale = step, scale

    def __call__(self):
        self.step()


def matrix_step(classes):
    scale = 1
    if classes > 100000:
        classes, scale = classes // 10, 10
    centers = torch.nn.Parameter(torch.randn(classes, FEATURES))
    opt = torch.optim.SGD([centers], lr=0.5)
    x = torch.randn(BATCH, FEATURES, requires_grad=True)
    y = torch.randint(0, classes, (BATCH,))
    all_classes = torch.arange(classes)

    def step():
        x.grad = None
        opt.zero_grad()
        distance = x.square().sum(1, keepdim=True) + centers.square().sum(1)[None, :]
        distance = torch.addmm(distance, x, centers.t(), beta=1, alpha=-2)
        mask = y[:, None].eq(all_classes[None, :])
        ((distance * mask.float()).clamp(1e-12, 1e12).sum() / BATCH).backward()
        opt.step()

    return Scaled(step, scale) if scale > 1 else step


def variants(classes=None):
    def parts(step_of, sizes=(10, 10000, 1000000)):
        if classes:
            return step_of(classes)
        return {f"{n} classes": step_of(n) for n in sizes}

    made = {
        "gather, bincount": lambda: parts(lambda n: gather_step(n, bins)),
        "gather, unique": lambda: parts(lambda n: gather_step(n, unique)),
        "gather, pairs": lambda: parts(lambda n: gather_step(n, same)),
        "gather, compile": lambda: parts(lambda n: gather_step(n, same, compiled=True)),
    }
    if not classes:
        made["B x C"] = lambda: parts(matrix_step, (10, 10000))
        made["B x C, 1/10 x 10"] = lambda: parts(matrix_step, (1000000,))
    return made
