import torch
from torch import nn


def net():
    layers, channels = [], 1
    for width in (32, 64, 128):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 5, padding=2), nn.PReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1152, 2), nn.PReLU(), nn.Linear(2, 10))


def stepper(channels_last=False, compiled=False):
    model = net()
    x, y = torch.rand(128, 1, 28, 28), torch.randint(0, 10, (128,))
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    run = torch.compile(model) if compiled else model

    def step():
        opt.zero_grad()
        nn.functional.cross_entropy(run(x), y).backward()
        opt.step()

    return step


def variants():
    return {
        "default": stepper,
        "channels_last": lambda: stepper(channels_last=True),
        "compile": lambda: stepper(compiled=True),
    }
