"""The training of CycleGAN: the objective of Zhu et al. 2017, section 3, and its schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from crossmod import Context, FloatArray
from crossmod.torch import (
    Means,
    Part,
    autocast,
    compiled_if_faster,
    resumable,
    send,
    side_by_side,
    sum_gradients,
)
from crossmod_cyclegan.lesions import Outliner, edge_loss, outline_loss
from crossmod_cyclegan.networks import Discriminator, Generator
from crossmod_cyclegan.slices import IN_PLACE, Batches, ImagePool, Slice

if TYPE_CHECKING:
    from crossmod_cyclegan import CycleGANOptions

REPORTS = 100
PANELS = 4

Piece = tuple[int, slice]
"""Which of the two generators or discriminators, and which items of a batch."""


def train(
    source: list[Slice],
    target: list[Slice],
    options: CycleGANOptions,
    ctx: Context,
    apart: FloatArray = IN_PLACE,
) -> tuple[Generator, Generator]:
    """Train on unpaired slices; notes mean losses, and shows what becomes of two slices.

    Args:
        source: slices of the source modality.
        target: slices of the target modality.
        options: what the recipe says.
        ctx: the run; networks are seeded by torch.
        apart: voxels along I and J by which target slices show heads off the place in source
            slices ``(2,)``; crops make up for it.

    Returns:
        The generators source -> target and target -> source.

    Raises:
        CrossmodError: a loss is NaN or infinite.
    """
    size = np.min([one.image.shape for one in source + target], axis=0)
    epoch = -(-max(len(source), len(target)) // options.batch_size)
    total = options.iterations or epoch * (options.epochs + options.decay_epochs)
    trainer, means = Trainer(options, ctx), Means()
    sources = Batches("source", source, size, options, ctx, -apart)
    targets = Batches("target", target, size, options, ctx, apart)
    parts: dict[str, Part] = {**trainer.networks, "trainer": trainer, "means": means}
    update = trainer.step
    if options.compile:
        update = compiled_if_faster(update, ctx, [*trainer.generators, *trainer.judges])
    for step in resumable(ctx, total, parts, label="cyclegan"):
        trainer.set_rate(learning_rate_factor(step, epoch, options))
        trainer.lesions_count = step >= options.lesion_delay * total
        shown, wanted = sources.batch(step), targets.batch(step)
        images = send(shown.images, ctx.device), send(wanted.images, ctx.device)
        labels = None if shown.labels is None else send(shown.labels, ctx.device)
        where = f"step {step + 1}, {', '.join(shown.names + wanted.names)}"
        means.add(update(*images, labels), where)
        if (step + 1) % max(1, total // REPORTS) == 0:
            ctx.metric(step=step + 1, **means.take())
        if (step + 1) % max(1, total // PANELS) == 0:
            ctx.panel(f"step-{step + 1:06d}", trainer.sample(*images))
    return trainer.result


def learning_rate_factor(step: int, steps_per_epoch: int, options: CycleGANOptions) -> float:
    """1 in the first part of training, then falling linearly to just above 0.

    With epochs, the factor changes from epoch to epoch; with iterations, from step to step.
    """
    if options.iterations:
        position, constant = step, options.iterations - options.iterations // 2
        decay = options.iterations // 2
    else:
        position, constant = step // steps_per_epoch, options.epochs
        decay = options.decay_epochs
    return 1.0 - max(0, position + 1 - constant) / (decay + 1)


class Trainer:
    """Two generators, two discriminators, and how one step changes them.

    Args:
        options: what the recipe says.
        ctx: the run.
    """

    def __init__(self, options: CycleGANOptions, ctx: Context) -> None:
        self.options, self.ctx = options, ctx
        self.lesions_count = True
        self.outliner = Outliner(len(ctx.classes)).to(ctx.device) if options.lesion_weight else None
        self.steps = 0
        shape = (options.base_channels, options.blocks, options.downsamplings, options.upsampling)
        judge = (options.discriminator_channels, options.discriminator_layers)
        self.generators = nn.ModuleList([Generator(*shape), Generator(*shape)]).to(ctx.device)
        self.judges = nn.ModuleList([Discriminator(*judge), Discriminator(*judge)]).to(ctx.device)
        self.average = deepcopy(self.generators) if options.weight_average else self.generators
        self.pools = [ImagePool(options.pool_size, name, ctx) for name in ("target", "source")]
        self.optimizers = [
            torch.optim.Adam(networks.parameters(), betas=(0.5, 0.999), fused=True)
            for networks in (self.generators, self.judges)
        ]
        self.rates = [1.0, options.discriminator_rate]
        if self.outliner:
            self.optimizers.append(torch.optim.Adam(self.outliner.parameters(), fused=True))
            self.rates.append(1.0)

    @property
    def autocast(self) -> torch.autocast:
        """Computes in the number format of the run; each thread enters its own."""
        return autocast(self.ctx.device, self.ctx.precision)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """All networks, each once."""
        found: dict[str, nn.Module] = {"generators": self.generators, "judges": self.judges}
        if self.average is not self.generators:
            found["average"] = self.average
        return {**found, "outliner": self.outliner} if self.outliner else found

    def state_dict(self) -> dict[str, Any]:
        """All that steps change besides networks."""
        return {
            "steps": self.steps,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "pools": [pool.state_dict() for pool in self.pools],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        self.steps = state["steps"]
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        for pool, own in zip(self.pools, state["pools"], strict=True):
            pool.load_state_dict(own)

    @property
    def result(self) -> tuple[Generator, Generator]:
        """The generators to use: source -> target, target -> source."""
        to_target, to_source = self.average
        assert isinstance(to_target, Generator)
        assert isinstance(to_source, Generator)
        return to_target, to_source

    def set_rate(self, factor: float) -> None:
        """Set the learning rate to a fraction of its full value."""
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = self.options.learning_rate * rate * factor

    @property
    def loss_weights(self) -> dict[str, float]:
        """By what the losses of the generators are multiplied; only those that are computed."""
        options = self.options
        weights = {
            "cycle": options.cycle_weight,
            "adversarial": 1.0,
            "identity": options.cycle_weight * options.identity_weight,
            "edge": options.edge_weight,
            "lesion": options.lesion_weight,
        }
        used = {name: weight for name, weight in weights.items() if weight}
        if "lesion" in used and not self.lesions_count:
            used["lesion"] = 0.0
        return used

    def step(
        self, source: Tensor, target: Tensor, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Update generators, then discriminators, then what outlines structures.

        Args:
            source: ``(B, 1, H, W)`` in [-1, 1].
            target: ``(B, 1, H, W)`` in [-1, 1].
            labels: of the source, uint8 ``(B, H, W)``, where the options ask for them.

        Returns:
            The loss terms, unweighted, as scalars.
        """
        self.steps += 1
        losses, fakes = self._update_generators(source, target, labels)
        losses["discriminator"] = self._update_judges((target, source), fakes)
        if self.outliner and labels is not None:
            losses["outliner"] = self._update_outliner(source, fakes[0], labels)
        if self.average is not self.generators:
            self._update_average()
        return losses

    def _update_generators(
        self, source: Tensor, target: Tensor, labels: Tensor | None
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Equation (3): adversarial + lambda * cycle, and the identity loss of section 5.2."""
        reals, learned = (source, target), list(self.generators.parameters())
        weights = self.loss_weights

        def there_and_back(piece: Piece) -> tuple[Tensor, Sequence[Tensor], Tensor]:
            way, items = piece
            own = labels[items] if labels is not None and way == 0 else None
            fake, losses = self._translate(way, reals[way][items], reals[1 - way][items], own)
            share = len(fake) / len(source)
            first, *rest = (w * losses[name] for name, w in weights.items() if name in losses)
            gradients = torch.autograd.grad(sum(rest, start=first) * share, learned)
            none = torch.zeros((), device=fake.device)
            noted = torch.stack([losses.get(name, none) for name in weights]).detach()
            return noted * share, gradients, fake.detach()

        found = list(side_by_side(there_and_back, self._pieces(len(source)), self.ctx))
        losses = sum_gradients(learned, (part[:2] for part in found))
        self.optimizers[0].step()
        half = len(found) // 2
        fakes = [torch.cat([fake for *_, fake in part]) for part in (found[:half], found[half:])]
        return dict(zip(weights, losses, strict=True)), fakes

    def _translate(
        self, way: int, images: Tensor, others: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Translate images one way and back.

        Args:
            way: 0 from source to target, 1 from target to source.
            images: ``(B, 1, H, W)``, of the modality to translate.
            others: of the other one, which the generator should leave as they are.
            labels: of the images, uint8 ``(B, H, W)``, where they have any.

        Returns:
            The translations, and the losses by name.
        """
        there, back = self.generators[way], self.generators[1 - way]
        options, losses = self.options, dict[str, Tensor]()
        with self.autocast:
            if options.identity_weight:
                # Instance normalization sees one slice at a time, so one call serves both inputs.
                fake, same = there(torch.cat([images, others])).split(len(images))
                losses["identity"] = l1_loss(same, others)
            else:
                fake = there(images)
            losses["cycle"] = l1_loss(back(fake), images)
            losses["adversarial"] = _least_squares(self.judges[way](fake), 1.0)
            if options.edge_weight:
                losses["edge"] = edge_loss(images, fake, labels)
            if self.outliner and labels is not None:
                losses["lesion"] = outline_loss(self.outliner(fake), labels)
        return fake, losses

    def _update_outliner(self, source: Tensor, fake: Tensor, labels: Tensor) -> Tensor:
        """Learn to outline structures in source slices and in their translations.

        By an optimizer of its own, so that it and the generator cannot agree on a hidden cue.
        """
        assert self.outliner is not None
        learned = list(self.outliner.parameters())
        with self.autocast:
            scores = self.outliner(torch.cat([source, fake.to(source.dtype)]))
        loss = outline_loss(scores, torch.cat([labels, labels]))
        sum_gradients(learned, [(loss, torch.autograd.grad(loss, learned))])
        self.optimizers[2].step()
        return loss.detach()

    def _update_judges(self, reals: tuple[Tensor, Tensor], fakes: Sequence[Tensor]) -> Tensor:
        """Equations (1) and (2) with squares in place of logarithms (section 4), halved."""
        shown = [pool.exchange(fake) for pool, fake in zip(self.pools, fakes, strict=True)]
        weights = [list(judge.parameters()) for judge in self.judges]

        def judgment(piece: Piece) -> tuple[Tensor, Sequence[Tensor]]:
            which, items = piece
            real = reals[which][items]
            both = torch.cat([real, shown[which][items].to(real.dtype)])
            with self.autocast:
                for_real, for_fake = self.judges[which](both).split(len(real))
            loss = _least_squares(for_real, 1.0) / 2 + _least_squares(for_fake, 0.0) / 2
            loss = loss * (len(real) / len(reals[which]))
            return loss.detach(), torch.autograd.grad(loss, weights[which])

        found = list(side_by_side(judgment, self._pieces(len(reals[0])), self.ctx))
        half = len(found) // 2
        losses = [
            sum_gradients(own, part)
            for own, part in zip(weights, (found[:half], found[half:]), strict=True)
        ]
        self.optimizers[1].step()
        return losses[0] + losses[1]

    def _pieces(self, count: int) -> list[Piece]:
        """The ways of a batch of ``count`` slices, on a CPU one slice at a time."""
        size = 1 if self.ctx.device == "cpu" else count
        parts = [slice(first, first + size) for first in range(0, count, size)]
        return [(way, part) for way in (0, 1) for part in parts]

    def _update_average(self) -> None:
        # A young average forgets faster, else it would remember the random start.
        decay = min(self.options.weight_average, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.generators.parameters(), strict=True)
            for average, newest in pairs:
                average.lerp_(newest, 1 - decay)

    def sample(self, source: Tensor, target: Tensor) -> list[list[FloatArray]]:
        """Two rows of images ``(J, I)`` in [0, 1]: real, translated, translated back."""
        rows = []
        with torch.inference_mode(), self.autocast:
            for real, there, back in (
                (source[:1], self.result[0], self.result[1]),
                (target[:1], self.result[1], self.result[0]),
            ):
                fake = there(real)
                images = [real, fake, back(fake)]
                rows.append([_viewable(image[0, 0]) for image in images])
        return rows


def _least_squares(scores: Tensor, wanted: float) -> Tensor:
    return (scores.float() - wanted).square().mean()


def _viewable(image: Tensor) -> FloatArray:
    """Anterior at the top, for an image whose axes are right and anterior."""
    gray: FloatArray = image.float().add(1).div(2).cpu().numpy()
    return gray.T[::-1]
