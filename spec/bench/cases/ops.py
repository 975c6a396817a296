import torch
from torch import nn
from torch.nn import functional as F

LARGE, MEDIUM = (2048, 2048), (256, 256)


class Line:
    """A step that is made when it is first needed."""

    def __init__(self, setup):
        self.setup, self.run = setup, None

    def __call__(self):
        if self.run is None:
            self.run = self.setup()
        self.run()


def parts():
    """{name: step}: the parts of ops.lua, with the same names and sizes."""
    lines = {}

    def forward(name, make, call):
        def setup():
            inputs = make()
            return lambda: call(*inputs)

        lines[name] = setup

    def both(name, make, call):
        def setup():
            inputs = make()
            leaves = [t.requires_grad_() for t in inputs if t.dtype == torch.float32]
            g = call(*inputs).detach().clone()

            def step():
                for t in leaves:
                    t.grad = None
                call(*inputs).backward(g)

            return step

        lines[name] = setup

    def last(*shape):
        return torch.randn(*shape).to(memory_format=torch.channels_last)

    randn, randint = torch.randn, torch.randint
    for tag, shape in (("4m", LARGE), ("64k", MEDIUM)):
        def one(shape=shape):
            return (randn(shape),)

        def two(shape=shape):
            return randn(shape), randn(shape)

        def choice(shape=shape):
            x, y = randn(shape), randn(shape)
            return x > 0, x, y

        def row(shape=shape):
            return randn(shape), randn(shape[1])

        def column(shape=shape):
            return randn(shape), randn(shape[0], 1)

        forward("add " + tag, two, lambda x, y: x + y)
        forward("mul " + tag, two, lambda x, y: x * y)
        forward("exp " + tag, one, torch.exp)
        forward("gelu " + tag, one, F.gelu)
        forward("sigmoid " + tag, one, torch.sigmoid)
        forward("tanh " + tag, one, torch.tanh)
        forward("relu " + tag, one, F.relu)
        both("relu both " + tag, one, F.relu)
        both("gelu both " + tag, one, F.gelu)
        both("mul both " + tag, two, lambda x, y: x * y)
        forward("where " + tag, choice, torch.where)
        forward("clamp " + tag, one, lambda x: x.clamp(-0.5, 0.5))
        forward("mul scalar " + tag, one, lambda x: x * 1.5)
        forward("add row " + tag, row, lambda x, y: x + y)
        forward("add column " + tag, column, lambda x, y: x + y)
        both("add row both " + tag, row, lambda x, y: x + y)
        forward("dropout " + tag, one, lambda x: F.dropout(x, 0.5, True))
    both("prelu both channels-last", lambda: (last(64, 32, 28, 28), torch.rand(32)), F.prelu)

    def cube():
        return (randn(128, 256, 128),)

    for name in ("sum", "mean", "max", "var", "argmax"):
        fn = getattr(torch, name)
        for dim in range(3):
            forward(f"{name} dim {dim + 1}", cube, lambda x, fn=fn, dim=dim: fn(x, dim))
        forward(name + " all", cube, fn)
    for dim in range(3):
        forward(f"cumsum dim {dim + 1}", cube, lambda x, dim=dim: x.cumsum(dim))
    for dim in (1, 2):
        forward(f"softmax dim {dim + 1}", cube, lambda x, dim=dim: x.softmax(dim))
        forward(f"log_softmax dim {dim + 1}", cube, lambda x, dim=dim: x.log_softmax(dim))
    both("softmax both dim 3", cube, lambda x: x.softmax(2))

    both("layer_norm both", lambda: (randn(4096, 256), randn(256), randn(256)),
         lambda x, w, b: F.layer_norm(x, (256,), w, b))
    both("group_norm both", lambda: (randn(32, 64, 28, 28), randn(64), randn(64)),
         lambda x, w, b: F.group_norm(x, 8, w, b))
    both("instance_norm both", lambda: (randn(32, 64, 28, 28),), F.instance_norm)
    for tag, image in (("nchw", randn), ("channels-last", last)):
        def normed(image=image):
            return image(64, 64, 28, 28), randn(64), randn(64)

        def planes(image=image):
            return (image(64, 64, 28, 28),)

        def small(image=image):
            return (image(64, 256, 8, 8),)

        both("batch_norm both " + tag, normed, lambda x, w, b: F.batch_norm(x, None, None, w, b, True))
        forward("max_pool2d " + tag, planes, lambda x: F.max_pool2d(x, 2))
        both("max_pool2d both " + tag, planes, lambda x: F.max_pool2d(x, 2))
        both("max_pool2d 3x3 both " + tag, planes, lambda x: F.max_pool2d(x, 3, 2, 1))
        forward("avg_pool2d " + tag, planes, lambda x: F.avg_pool2d(x, 2))
        both("avg_pool2d both " + tag, planes, lambda x: F.avg_pool2d(x, 2))
        both("max_pool2d small both " + tag, small, lambda x: F.max_pool2d(x, 2))
        both("adaptive_avg_pool2d both " + tag, small, lambda x: F.adaptive_avg_pool2d(x, 1))

    forward("gather", lambda: (randn(2048, 1024), randint(0, 1024, (2048, 1024))),
            lambda x, idx: x.gather(1, idx))
    forward("index_select rows", lambda: (randn(8192, 256), randint(0, 8192, (8192,))),
            lambda x, idx: x.index_select(0, idx))
    both("index_select columns both", lambda: (randn(2048, 1024), randint(0, 1024, (512,))),
         lambda x, idx: x.index_select(1, idx))
    both("embedding both", lambda: (randint(0, 10000, (64, 128)), randn(10000, 256)), F.embedding)

    def pair():
        return randn(1024, 1024), randn(1024, 1024)

    forward("cat dim 1", pair, lambda x, y: torch.cat((x, y), 0))
    forward("cat dim 2", pair, lambda x, y: torch.cat((x, y), 1))
    forward("stack dim 3", pair, lambda x, y: torch.stack((x, y), 2))
    forward("transpose copy", lambda: (randn(LARGE),), lambda x: x.t().contiguous())
    forward("permute copy 0231", lambda: (randn(64, 64, 28, 28),),
            lambda x: x.permute(0, 2, 3, 1).contiguous())
    forward("permute copy 0312", lambda: (randn(64, 28, 28, 64),),
            lambda x: x.permute(0, 3, 1, 2).contiguous())
    forward("permute copy 0213", lambda: (randn(16, 128, 4, 64),),
            lambda x: x.permute(0, 2, 1, 3).contiguous())
    forward("sort rows", lambda: (randn(1024, 1024),), lambda x: x.sort(1))
    forward("sort 1m", lambda: (randn(1048576),), lambda x: x.sort(0))
    forward("topk 10 of 1024", lambda: (randn(1024, 1024),), lambda x: x.topk(10, 1))
    both("cross_entropy both", lambda: (randn(4096, 1000), randint(0, 1000, (4096,))),
         F.cross_entropy)
    forward("randn 1m", tuple, lambda: randn(1048576))
    forward("rand 1m", tuple, lambda: torch.rand(1048576))
    forward("randperm 1m", tuple, lambda: torch.randperm(1048576))

    def optimizer(clip):
        params = [nn.Parameter(randn(512, 256)) for _ in range(10)]
        for p in params:
            p.grad = randn(512, 256)
        opt = torch.optim.Adam(params, lr=1e-3, fused=True)

        def step():
            if clip:
                nn.utils.clip_grad_norm_(params, 1)
            opt.step()

        return step

    lines["adam 10 parameters"] = lambda: optimizer(False)
    lines["clip and adam 10 parameters"] = lambda: optimizer(True)

    for m, n, k in ((1024, 1024, 1024), (512, 512, 512), (256, 256, 256), (64, 64, 64),
                    (128, 512, 784), (128, 10, 512), (4096, 64, 64), (16, 1024, 1024),
                    (1, 1024, 1024), (1024, 1, 1024)):
        forward(f"sgemm {m}x{n}x{k}", lambda m=m, n=n, k=k: (randn(m, k), randn(k, n)), torch.matmul)
    for n, c, d, h, k, stride in ((64, 1, 32, 28, 5, 1), (64, 32, 32, 28, 5, 1),
                                  (64, 64, 64, 14, 5, 1), (64, 128, 128, 7, 5, 1),
                                  (64, 3, 64, 32, 3, 1), (32, 64, 64, 32, 3, 1),
                                  (64, 128, 128, 16, 3, 1), (64, 256, 256, 8, 3, 1),
                                  (64, 64, 128, 32, 1, 1), (64, 64, 128, 32, 3, 2),
                                  (64, 256, 64, 16, 1, 1), (8, 3, 64, 112, 7, 2)):
        forward(f"conv {n} {c}->{d} {h}x{h} k{k} s{stride}",
                lambda n=n, c=c, d=d, h=h, k=k: (last(n, c, h, h),
                                                 last(d, c, k, k), randn(d)),
                lambda x, w, b, stride=stride, k=k: F.conv2d(x, w, b, stride, k // 2))
    return {name: Line(setup) for name, setup in lines.items()}


def variants():
    return {"default": parts}
