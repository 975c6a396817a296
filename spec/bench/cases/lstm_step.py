import torch


def stepper(compiled=False):
    model = torch.nn.LSTM(128, 256)
    x = torch.randn(64, 32, 128)
    opt = torch.optim.SGD(model.parameters(), lr=0.01)
    run = torch.compile(model) if compiled else model

    def step():
        opt.zero_grad()
        run(x)[0].square().mean().backward()
        opt.step()

    return step


def variants():
    return {"default": stepper, "compile": lambda: stepper(compiled=True)}
