import torch
import training
from torch import nn


def build(batch=16):
    model = nn.TransformerEncoderLayer(256, 4, 1024, 0.0, "gelu", batch_first=True, norm_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(128)

    def loss(model, x):
        return model(x, src_mask=mask, is_causal=True).square().mean()

    return model, [torch.randn(batch, 128, 256)], loss, torch.optim.SGD, dict(lr=0.01)


def variants(**size):
    return training.variants(lambda: build(**size))
