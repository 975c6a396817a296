"""The peer reads as its users do: a map-style dataset of tensors, item by item or by whole batches,
and pictures through PIL, with and without worker processes."""
import gzip
import os

import numpy
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

PLACES = [os.environ.get("PERIGEE_DATA", ""), "../shared/data"]


def find(name):
    for place in PLACES:
        path = os.path.join(place, name)
        if place and os.path.exists(path):
            return path
    return None


def idx(path, offset):
    with gzip.open(path) as file:
        return torch.from_numpy(numpy.frombuffer(file.read(), numpy.uint8, offset=offset).copy())


class Digits(Dataset):
    def __init__(self):
        folder = find("mnist")
        self.images = idx(f"{folder}/train-images-idx3-ubyte.gz", 16).view(-1, 1, 28, 28)
        self.labels = idx(f"{folder}/train-labels-idx1-ubyte.gz", 8).long()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i].float().div(255), self.labels[i]


class Pictures(Dataset):
    def __init__(self):
        root = os.path.join(find("cifar10-jpg"), "train")
        classes = sorted(os.listdir(root))
        self.items = [
            (os.path.join(root, name, file), k)
            for k, name in enumerate(classes)
            for file in sorted(os.listdir(os.path.join(root, name)))
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        from PIL import Image

        path, label = self.items[i]
        with Image.open(path) as picture:
            pixels = torch.from_numpy(numpy.array(picture.convert("RGB")))
        return pixels.permute(2, 0, 1).float().div(255), label


def epoch(loader):
    def step():
        for _ in loader:
            pass

    return step


def parts(workers, whole):
    made = {}
    extra = dict(num_workers=workers, persistent_workers=workers > 0)
    if find("mnist"):
        digits = Digits()
        if whole:
            sampler = BatchSampler(RandomSampler(digits), 128, drop_last=False)
            loader = DataLoader(digits, sampler=sampler, batch_size=None, **extra)
        else:
            loader = DataLoader(digits, batch_size=128, shuffle=True, **extra)
        made["MNIST epoch"] = epoch(loader)
    if find("cifar10-jpg") and not whole:
        made["JPEG folder"] = epoch(DataLoader(Pictures(), batch_size=64, shuffle=True, **extra))
    return made


def variants():
    return {
        "DataLoader": lambda: parts(0, False),
        "2 workers": lambda: parts(2, False),
        "whole batches": lambda: parts(0, True),
        "whole, 2 workers": lambda: parts(2, True),
    }
