import torch
import training
from torch import nn


def build(batch=128):
    layers, channels = [], 1
    for width in (32, 64, 128):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 5, padding=2), nn.PReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1152, 2), nn.PReLU(), nn.Linear(2, 10))
    inputs = [torch.rand(batch, 1, 28, 28), torch.randint(0, 10, (batch,))]

    def loss(model, x, y):
        return nn.functional.cross_entropy(model(x), y)

    return model, inputs, loss, torch.optim.SGD, dict(lr=0.01, momentum=0.9, weight_decay=5e-4)


def variants(**size):
    return training.variants(lambda: build(**size), image=True)
