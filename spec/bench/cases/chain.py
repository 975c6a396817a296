import torch

SIZES = {"64k": (256, 256), "1m": (1024, 1024), "4m": (2048, 2048)}


def swish(x):
    return x * torch.sigmoid(x)


def gelu(x):
    return 0.5 * x * (1 + torch.tanh((x + 0.044715 * x * x * x) * 0.7978845608))


def nll(x, y, s):
    d = x - y
    return d * d / (2 * s * s) + torch.log(s)


@torch.no_grad()
def adam(p, g, m, v):
    m.mul_(0.9).add_(g * 0.1)
    v.mul_(0.999).add_(g * g * 0.001)
    p.sub_(m / 0.9 * 0.01 / ((v / 0.99).sqrt() + 1e-8))


def part(shape, inputs, grad, fn, compiled):
    state = {}

    def step():
        if not state:
            torch.manual_seed(1)
            made = [torch.randn(shape) if i < 2 else torch.rand(shape) + 0.5 for i in range(inputs)]
            state["input"] = [t.requires_grad_(grad) for t in made]
            state["g"] = torch.randn(shape)
            state["fn"] = torch.compile(fn, dynamic=False) if compiled else fn
        for t in state["input"] if grad else ():
            t.grad = None
        out = state["fn"](*state["input"])
        if grad:
            out.backward(state["g"])

    return step


def variants():
    def make(compiled):
        parts = {}
        for tag, shape in SIZES.items():
            for name, inputs, fn in (("swish", 1, swish), ("gelu", 1, gelu), ("nll", 3, nll)):
                parts[f"{name} {tag}"] = part(shape, inputs, False, fn, compiled)
                parts[f"{name} both {tag}"] = part(shape, inputs, True, fn, compiled)
            parts[f"adam {tag}"] = part(shape, 4, False, adam, compiled)
        return parts

    return {"default": lambda: make(False), "compile": lambda: make(True)}
