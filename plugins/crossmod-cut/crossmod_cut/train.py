"""The training of CUT: the objective of Park et al. 2020, section 3, and the authors' schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from crossmod import Context, FloatArray
from crossmod.torch import Means, Part, autocast, resumable, send, sum_gradients
from crossmod_cut.networks import Discriminator, Generator, Projector, generator_of
from crossmod_cut.slices import Batches, Slice

if TYPE_CHECKING:
    from crossmod_cut import CUTOptions

REPORTS = 100
PANELS = 4


def train(source: list[Slice], target: list[Slice], options: CUTOptions, ctx: Context) -> Generator:
    """Train on unpaired slices; notes mean losses, and shows what becomes of two slices.

    Args:
        source: slices of the source modality.
        target: slices of the target modality.
        options: what the recipe says.
        ctx: the run; networks are seeded by torch.

    Raises:
        CrossmodError: a loss is NaN or infinite.
    """
    size = np.min([one.image.shape for one in source + target], axis=0)
    epoch = -(-max(len(source), len(target)) // options.batch_size)
    schedule = Schedule(epoch, options)
    trainer, means = Trainer(options, ctx), Means()
    sources = Batches("source", source, size, options, ctx)
    targets = Batches("target", target, size, options, ctx)
    parts: dict[str, Part] = {"networks": trainer.networks, "trainer": trainer, "means": means}
    for step in resumable(ctx, schedule.total, parts, label=options.mode):
        trainer.set_rate(schedule.factor(step))
        shown, wanted = sources.batch(step), targets.batch(step)
        images = send(shown.images, ctx.device), send(wanted.images, ctx.device)
        where = f"step {step + 1}, {', '.join(shown.names + wanted.names)}"
        means.add(trainer.step(*images, ctx.rng("step", step)), where)
        if (step + 1) % max(1, schedule.total // REPORTS) == 0:
            ctx.metric(step=step + 1, **means.take())
        if (step + 1) % max(1, schedule.total // PANELS) == 0:
            ctx.panel(f"step-{step + 1:06d}", trainer.sample(*images))
    return trainer.generator


class Schedule:
    """The length of a training, and its learning rate.

    Args:
        steps_per_epoch: batches of the larger modality.
        options: what the recipe says.
    """

    def __init__(self, steps_per_epoch: int, options: CUTOptions) -> None:
        def chosen(own: int | None, authors: int) -> int:
            return authors if own is None else own

        if options.iterations:
            self.unit, self.decay = 1, options.iterations // 2
            self.constant = options.iterations - self.decay
        else:
            self.unit = steps_per_epoch
            self.constant = chosen(options.epochs, options.authors.epochs)
            self.decay = chosen(options.decay_epochs, options.authors.decay_epochs)
        self.total = self.unit * (self.constant + self.decay)

    def factor(self, step: int) -> float:
        """1 in the first part of training, then falling linearly to just above 0.

        With epochs, the factor changes from epoch to epoch; with iterations, from step to step.
        """
        return 1.0 - max(0, step // self.unit + 1 - self.constant) / (self.decay + 1)


class Trainer:
    """A generator, a discriminator, a projector, and how one step changes them.

    Args:
        options: what the recipe says.
        ctx: the run.
    """

    def __init__(self, options: CUTOptions, ctx: Context) -> None:
        self.options, self.ctx = options, ctx
        self.generator = generator_of(options)
        self.judge = Discriminator(options.discriminator_channels, options.discriminator_layers)
        channels = [count for _, count in self.generator.tapped]
        self.projector = Projector(channels, options.features)
        self.networks = nn.ModuleList([self.generator, self.judge, self.projector]).to(ctx.device)
        self.optimizers = [
            torch.optim.Adam(one.parameters(), betas=(0.5, 0.999), fused=True)
            for one in self.networks
        ]

    def state_dict(self) -> dict[str, Any]:
        """All that steps change besides networks."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)

    def set_rate(self, factor: float) -> None:
        """Set the learning rate to a fraction of its full value."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.options.learning_rate * factor

    def step(self, source: Tensor, target: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
        """Update the discriminator, then the generator and the projector.

        Args:
            source: ``(B, 1, H, W)`` in [-1, 1].
            target: ``(B, 1, H, W)`` in [-1, 1].
            rng: decides whether slices are mirrored, and which patches are compared.

        Returns:
            The loss terms, unweighted, as scalars.
        """
        authors = self.options.authors
        mirrored = authors.flips and bool(rng.random() < 0.5)
        shown = torch.cat([source, target]) if authors.identity else source
        with autocast(self.ctx.device, self.ctx.precision):
            made = self.generator(shown.flip(-2) if mirrored else shown)
        fake, same = made[: len(source)], made[len(source) :]
        losses = {"discriminator": self._update_judge(target, fake.detach())}
        with autocast(self.ctx.device, self.ctx.precision):
            losses["adversarial"] = _least_squares(self.judge(fake), 1.0)
            losses["contrast"] = self._contrast(source, fake, mirrored, rng)
            if authors.identity:
                losses["identity"] = self._contrast(target, same, mirrored, rng)
        contrasts = [losses[name] for name in ("contrast", "identity") if name in losses]
        weight = self.options.contrast_weight or authors.weight
        loss = losses["adversarial"] + weight * torch.stack(contrasts).mean()
        learned = [*self.generator.parameters(), *self.projector.parameters()]
        sum_gradients(learned, [(loss, torch.autograd.grad(loss, learned))])
        self.optimizers[0].step()
        self.optimizers[2].step()
        return {name: one.detach() for name, one in losses.items()}

    def _update_judge(self, real: Tensor, fake: Tensor) -> Tensor:
        """Least squares in place of equation (1), halved."""
        learned = list(self.judge.parameters())
        with autocast(self.ctx.device, self.ctx.precision):
            for_real, for_fake = self.judge(torch.cat([real, fake.to(real.dtype)])).chunk(2)
        loss = _least_squares(for_real, 1.0) / 2 + _least_squares(for_fake, 0.0) / 2
        sum_gradients(learned, [(loss, torch.autograd.grad(loss, learned))])
        self.optimizers[1].step()
        return loss.detach()

    def _contrast(
        self, before: Tensor, after: Tensor, mirrored: bool, rng: np.random.Generator
    ) -> Tensor:
        """Equation (4): a patch of a translation should resemble the patch that it was made from.

        Args:
            before: the slices ``(B, 1, H, W)``.
            after: what the generator made of them, or of their mirror images.
            mirrored: which of both.
            rng: chooses the places.
        """
        features = self.generator.encode(after)
        features = [one.flip(-2) for one in features] if mirrored else features
        places = [self._places(one, rng) for one in features]
        asked = self.projector(features, places)
        with torch.no_grad():  # after `asked`: autocast keeps the weights that it has converted
            known = self.projector(self.generator.encode(before), places)
        pairs = zip(asked, known, strict=True)
        return torch.stack([patch_nce(*pair, self.options.temperature) for pair in pairs]).mean()

    def _places(self, features: Tensor, rng: np.random.Generator) -> Tensor:
        """Some places of a slice, each once."""
        count = features.shape[-2] * features.shape[-1]
        chosen = rng.permutation(count)[: self.options.patches]
        return send(torch.from_numpy(chosen), features.device)

    def sample(self, source: Tensor, target: Tensor) -> list[list[FloatArray]]:
        """Two rows of images ``(J, I)`` in [0, 1]: real, and what the generator makes of it."""
        rows = []
        with torch.inference_mode(), autocast(self.ctx.device, self.ctx.precision):
            for real in (source[:1], target[:1]):
                rows.append([_viewable(image[0, 0]) for image in (real, self.generator(real))])
        return rows


def patch_nce(asked: Tensor, known: Tensor, temperature: float) -> Tensor:
    """How hard it is to find, among the patches of a slice, the one that a patch was made from.

    Args:
        asked: vectors ``(B, N, length)`` of length 1, from the translation.
        known: those of the slice itself, at the same places.
        temperature: by what similarities are divided.

    Returns:
        The mean cross entropy, with the other patches of the same slice as wrong answers.
    """
    similar = torch.bmm(asked, known.transpose(1, 2)) / temperature
    right = torch.arange(similar.shape[1], device=similar.device).expand(len(similar), -1)
    return cross_entropy(similar.flatten(0, 1), right.flatten())


def _least_squares(scores: Tensor, wanted: float) -> Tensor:
    return (scores.float() - wanted).square().mean()


def _viewable(image: Tensor) -> FloatArray:
    """Anterior at the top, for an image whose axes are right and anterior."""
    gray: FloatArray = image.float().add(1).div(2).cpu().numpy()
    return gray.T[::-1]
