"""Train networks with labels on which schedules are judged: CIFAR-10 or digits, by diffusers alone.

    python benchmarks/images.py ddpm CIFAR.npz OUT      # 2,800 steps: 45 minutes on one core
    python benchmarks/images.py flow CIFAR.npz OUT      # the same network and data by flow matching
    python benchmarks/images.py ddpm digits OUT --steps 4000 --batch 128 --predict epsilon  # 8 x 8, of scikit-learn
    python benchmarks/images.py classifier CIFAR.npz OUT/classifier.pt

CIFAR.npz has `bytes` and `offsets` (one JPEG or PNG file per image, end to end), `labels` and `split` (0: train, 1:
test). A U-Net of 0.7 million weights sees each image of 3 x 32 x 32 as 12 x 16 x 16: every 2 x 2 square of a colour
becomes four channels, a rearrangement of the coordinates, so that distances are those of the images. A seventh of the
labels is dropped (label 10), for guidance. Weights are averaged over the last steps.

Networks predict velocities unless told otherwise. One of colour images that predicts noise, trained as briefly, errs by
several times the images at high noise: without clipping, its samples are worthless (2,800 steps: its ends under
guidance were 7 times as far from training images as those are from each other).

The classifier, trained on the same images, has 32 features at the end: distances between laws are taken in them. They
are not Inception's, and what is measured with them is no FID.
"""

import argparse
import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from PIL import Image
from rich.progress import track
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10  # the label after the last stands for none
DROPPED = 1 / 7
RATE = 1e-3
FEATURES = 32
FLIPPED = {3: 0.5, 1: 0.0}  # share of images seen in a mirror, by their channels: not digits


def load(file: str) -> dict[int, tuple[Tensor, Tensor]]:
    """Images, of shape (count, channels, height, width) in [-1, 1], and labels, for each split."""
    if file == "digits":
        found = load_digits()
        images, labels = torch.tensor(found.images[:, None]).float() / 8 - 1, torch.tensor(found.target)
        test = torch.arange(len(labels)) % 4 == 3
        return {k: (images[test == bool(k)], labels[test == bool(k)]) for k in (0, 1)}
    with np.load(file) as archive:
        content, offsets = archive["bytes"].tobytes(), archive["offsets"]
        labels, split = archive["labels"].astype(int), archive["split"]
    pixels = [np.asarray(Image.open(io.BytesIO(content[a:b]))) for a, b in pairwise(offsets)]
    images = torch.tensor(np.stack(pixels)).permute(0, 3, 1, 2) / 127.5 - 1
    return {int(s): (images[split == s], torch.tensor(labels[split == s])) for s in np.unique(split)}


def fold(images: Tensor) -> Tensor:
    """(..., 3, 32, 32) as (..., 12, 16, 16), digits as they are."""
    return functional.pixel_unshuffle(images, 2) if images.shape[-1] == 32 else images


def unfold(points: Tensor) -> Tensor:
    """What `fold` folded."""
    return functional.pixel_shuffle(points, 2) if points.shape[-1] == 16 else points


def network(channels: int, size: int) -> UNet2DModel:
    """A U-Net that knows labels."""
    width = 2 * size
    return UNet2DModel(
        sample_size=size, in_channels=channels, out_channels=channels, block_out_channels=(width, 2 * width),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1, norm_num_groups=width // 4, attention_head_dim=width // 2, num_class_embeds=CLASSES + 1,
    )  # fmt: skip


def loss(model: nn.Module, kind: str, x: Tensor, labels: Tensor, scheduler: DDPMScheduler | None) -> Tensor:
    """The mean square error of the predicted velocity or noise."""
    noise = torch.randn_like(x)
    if kind == "ddpm":
        assert scheduler is not None
        time = torch.randint(0, scheduler.config["num_train_timesteps"], (len(x),), device=x.device)
        found = model(scheduler.add_noise(x, noise, time), time, class_labels=labels).sample
        goal = noise if scheduler.config["prediction_type"] == "epsilon" else scheduler.get_velocity(x, noise, time)
        return functional.mse_loss(found, goal)
    part = torch.sigmoid(torch.randn(len(x), device=x.device))
    share = part[:, None, None, None]
    found = model((1 - share) * x + share * noise, 1000 * part, class_labels=labels).sample
    return functional.mse_loss(found, noise - x)


def train(kind: str, file: str, folder: str, steps: int, batch: int, predict: str, seed: int) -> None:
    """Train a network and write its model and scheduler as diffusers does."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    images, labels = load(file)[0]
    images = images.to(device)
    labels = labels.to(device)
    model = network(*fold(images[:1]).shape[1:3]).to(device)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998))
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.05)
    scheduler = DDPMScheduler(prediction_type=predict) if kind == "ddpm" else FlowMatchEulerDiscreteScheduler()
    running = 0.0
    for step in track(range(steps), "training"):
        chosen = torch.randint(0, len(images), (batch,), device=device)
        x = fold(images[chosen])
        flipped = torch.rand(batch, device=device) < FLIPPED[images.shape[1]]
        x[flipped] = fold(images[chosen][flipped].flip(3))
        dropped = torch.rand(batch, device=device) < DROPPED
        label = torch.where(dropped, CLASSES, labels[chosen])
        found = loss(model, kind, x, label, scheduler if kind == "ddpm" else None)
        optimiser.zero_grad()
        found.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
        average.update_parameters(model)
        running += found.item()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {running / 100:.4f}", flush=True)
            running = 0.0
    average.module.save_pretrained(folder)
    scheduler.save_pretrained(folder)


class Classifier(nn.Module):
    """A small convolutional network; `features` are what its last layer sees."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, 32, 64, 128)
        blocks = [
            layer
            for a, b in pairwise(widths)
            for layer in (nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
        ]
        self.features = nn.Sequential(
            *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], FEATURES), nn.ReLU()
        )
        self.last = nn.Linear(FEATURES, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of classes, for images of shape (count, channels, height, width)."""
        return self.last(self.features(images))


def train_classifier(file: str, out: str, steps: int, seed: int) -> None:
    """Train the classifier and write its weights; prints its accuracy on the test images."""
    torch.manual_seed(seed)
    splits = load(file)
    images, labels = splits[0]
    model = Classifier(images.shape[1])
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for _ in track(range(steps), "training"):
        chosen = torch.randint(0, len(images), (128,))
        x = images[chosen]
        flipped = torch.rand(len(x)) < FLIPPED[images.shape[1]]
        x[flipped] = x[flipped].flip(3)
        optimiser.zero_grad()
        functional.cross_entropy(model(x), labels[chosen]).backward()
        optimiser.step()
        rate.step()
    model.eval()
    images, labels = splits[1]
    with torch.no_grad():
        right = torch.cat([model(x).argmax(1) for x in images.split(500)]) == labels
    print(f"{float(right.float().mean()):.1%} of {len(images):,} test images are named right")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("ddpm", "flow", "classifier"))
    parser.add_argument("data", help="the archive of images, or: digits")
    parser.add_argument("out", help="a folder; for the classifier, a file")
    parser.add_argument("--steps", type=int, default=2800)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--predict", choices=("epsilon", "v_prediction"), default="v_prediction", help="of a ddpm")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.kind == "classifier":
        train_classifier(given.data, given.out, given.steps, given.seed)
    else:
        train(given.kind, given.data, given.out, given.steps, given.batch, given.predict, given.seed)


if __name__ == "__main__":
    main()
