"""The peer's variants of a training case."""
import torch


def variants(build, image=False):
    """build() gives (model, inputs, loss(model, *inputs), optimizer class, its arguments)."""

    def stepper(channels_last=False, bf16=False, fused=False, compiled=False):
        model, inputs, loss, optimizer, arguments = build()
        if channels_last:
            model = model.to(memory_format=torch.channels_last)
            inputs = [
                x.to(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs
            ]
        opt = optimizer(model.parameters(), fused=fused or None, **arguments)

        def run(*inputs):
            return loss(model, *inputs)

        forward = torch.compile(run) if compiled else run

        def step():
            opt.zero_grad()
            if bf16:
                with torch.autocast("cpu", torch.bfloat16):
                    value = forward(*inputs)
            else:
                value = forward(*inputs)
            value.backward()
            opt.step()

        return step

    made = {}
    for bf16 in (False, True):
        for channels_last in (False, True) if image else (False,):
            for extra in ({}, {"fused": True}, {"fused": True, "compiled": True}):
                words = ["bf16"] * bf16 + ["channels_last"] * channels_last
                words += ["compile"] if "compiled" in extra else ["fused"] if extra else []
                made[" ".join(words) or "default"] = (
                    lambda b=bf16, c=channels_last, e=extra: stepper(c, b, **e)
                )
    return made
