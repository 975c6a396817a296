import torch
from torch import nn


def stepper(compiled=False):
    model = nn.TransformerEncoderLayer(256, 4, 1024, 0.0, "gelu", batch_first=True, norm_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(128)
    x = torch.randn(16, 128, 256)
    opt = torch.optim.SGD(model.parameters(), lr=0.01)
    run = torch.compile(model) if compiled else model

    def step():
        opt.zero_grad()
        run(x, src_mask=mask, is_causal=True).square().mean().backward()
        opt.step()

    return step


def variants():
    return {"default": stepper, "compile": lambda: stepper(compiled=True)}
