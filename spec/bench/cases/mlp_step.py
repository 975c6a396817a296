import torch
import training
from torch import nn


def build(batch=128, width=512):
    model = nn.Sequential(
        nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )
    inputs = [torch.rand(batch, 784), torch.randint(0, 10, (batch,))]

    def loss(model, x, y):
        return nn.functional.cross_entropy(model(x), y)

    return model, inputs, loss, torch.optim.Adam, dict(lr=1e-3)


def variants(**size):
    return training.variants(lambda: build(**size))
