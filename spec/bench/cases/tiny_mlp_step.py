import torch
from torch import nn


def stepper(compiled=False):
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    x, y = torch.rand(16, 4), torch.randint(0, 3, (16,))
    opt = torch.optim.SGD(model.parameters(), lr=0.01)
    run = torch.compile(model) if compiled else model

    def step():
        opt.zero_grad()
        nn.functional.cross_entropy(run(x), y).backward()
        opt.step()

    return step


def variants():
    return {"default": stepper, "compile": lambda: stepper(compiled=True)}
