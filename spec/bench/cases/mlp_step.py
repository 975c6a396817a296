import torch
from torch import nn


def stepper(compiled=False):
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    x, y = torch.rand(128, 784), torch.randint(0, 10, (128,))
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    run = torch.compile(model) if compiled else model

    def step():
        opt.zero_grad()
        nn.functional.cross_entropy(run(x), y).backward()
        opt.step()

    return step


def variants():
    return {"default": stepper, "compile": lambda: stepper(compiled=True)}
