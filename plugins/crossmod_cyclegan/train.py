"""The training of CycleGAN: the objective of Zhu et al. 2017, section 3, and its schedule."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from crossmod import Context, FloatArray
from crossmod.torch import Means, Part, autocast, require_finite, resumable, to_numbers
from crossmod_cyclegan.networks import Discriminator, Generator
from crossmod_cyclegan.slices import Batches, ImagePool, Slice

if TYPE_CHECKING:
    from crossmod_cyclegan import CycleGANOptions

REPORTS = 100
PANELS = 4


def train(
    source: list[Slice], target: list[Slice], options: CycleGANOptions, ctx: Context
) -> tuple[Generator, Generator]:
    """Train on unpaired slices; notes mean losses, and shows what becomes of two slices.

    Args:
        source: slices of the source modality.
        target: slices of the target modality.
        options: what the recipe says.
        ctx: the run; networks are seeded by torch.

    Returns:
        The generators source -> target and target -> source.

    Raises:
        CrossmodError: a loss is NaN or infinite.
    """
    size = np.min([image.shape for image, _ in source + target], axis=0)
    epoch = -(-max(len(source), len(target)) // options.batch_size)
    total = options.iterations or epoch * (options.epochs + options.decay_epochs)
    trainer, means = Trainer(options, ctx), Means()
    sources = Batches("source", source, size, options, ctx)
    targets = Batches("target", target, size, options, ctx)
    parts: dict[str, Part] = {**trainer.networks, "trainer": trainer, "means": means}
    for step in resumable(ctx, total, parts, label="cyclegan"):
        trainer.set_rate(learning_rate_factor(step, epoch, options))
        (real_source, names), (real_target, others) = sources.batch(step), targets.batch(step)
        images = real_source.to(ctx.device), real_target.to(ctx.device)
        losses = to_numbers(trainer.step(*images))
        require_finite(losses, f"step {step + 1}, {', '.join(names + others)}")
        means.add(losses)
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
        self.options = options
        self.autocast = autocast(ctx.device, ctx.precision)
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

    @property
    def networks(self) -> dict[str, nn.Module]:
        """All networks, each once."""
        average = {} if self.average is self.generators else {"average": self.average}
        return {"generators": self.generators, "judges": self.judges, **average}

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

    def step(self, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Update generators, then discriminators.

        Args:
            source: ``(B, 1, H, W)`` in [-1, 1].
            target: ``(B, 1, H, W)`` in [-1, 1].

        Returns:
            The loss terms, unweighted, as scalars.
        """
        self.steps += 1
        losses, fakes = self._update_generators(source, target)
        losses["discriminator"] = self._update_judges((target, source), fakes)
        if self.average is not self.generators:
            self._update_average()
        return losses

    def _update_generators(
        self, source: Tensor, target: Tensor
    ) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
        """Equation (3): adversarial + lambda * cycle, and the identity loss of section 5.2."""
        to_target, to_source = self.generators
        self.judges.requires_grad_(False)
        with self.autocast:
            # Instance normalization sees one slice at a time, so one call serves both inputs.
            fake_target, same_target = self._translate(to_target, source, target)
            fake_source, same_source = self._translate(to_source, target, source)
            cycle = l1_loss(to_source(fake_target), source)
            cycle = cycle + l1_loss(to_target(fake_source), target)
            judge_target, judge_source = self.judges
            adversarial = _least_squares(judge_target(fake_target), 1.0)
            adversarial = adversarial + _least_squares(judge_source(fake_source), 1.0)
            losses = {"cycle": cycle, "adversarial": adversarial}
            if same_target is not None and same_source is not None:
                losses["identity"] = l1_loss(same_target, target) + l1_loss(same_source, source)
        weight = self.options.cycle_weight
        total = adversarial + weight * cycle
        if "identity" in losses:
            total = total + weight * self.options.identity_weight * losses["identity"]
        self._descend(0, total)
        self.judges.requires_grad_(True)
        return (
            {name: loss.detach() for name, loss in losses.items()},
            (fake_target.detach(), fake_source.detach()),
        )

    def _translate(
        self, generator: Any, images: Tensor, others: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Translate images, and where the identity loss counts, those that need no translation."""
        if self.options.identity_weight == 0:
            return generator(images), None
        fake, same = generator(torch.cat([images, others])).split(len(images))
        return fake, same

    def _update_judges(self, reals: tuple[Tensor, Tensor], fakes: tuple[Tensor, Tensor]) -> Tensor:
        """Equations (1) and (2) with squares in place of logarithms (section 4), halved."""
        total = torch.zeros((), device=reals[0].device)
        for judge, pool, real, fake in zip(self.judges, self.pools, reals, fakes, strict=True):
            shown = torch.cat([real, pool.exchange(fake).to(real.dtype)])
            with self.autocast:
                for_real, for_fake = judge(shown).split(len(real))
            total = total + _least_squares(for_real, 1.0) / 2 + _least_squares(for_fake, 0.0) / 2
        self._descend(1, total)
        return total.detach()

    def _descend(self, which: int, loss: Tensor) -> None:
        self.optimizers[which].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[which].step()

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
