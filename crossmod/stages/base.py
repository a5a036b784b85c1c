"""The four stages of cross-modality adaptation: what each one gets and gives.

    translate -> augment -> segment -> pseudo-label -> segment again, round after round

A plugin subclasses one of them. Work is a stream: take volumes from an iterator, `yield` results;
a network is a local variable. What `fit` returns is stored by the core and handed back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from crossmod.data.cohorts import Cohort
from crossmod.data.state import Arrays, State
from crossmod.data.volumes import Pair, Prediction, Volume
from crossmod.errors import PluginError
from crossmod.options import HasOptions, OptionsT
from crossmod.stages.context import Context


@dataclass(frozen=True)
class ScanFacts:
    """What is known of a scan before anything is computed.

    Attributes:
        case: its id.
        center: where it comes from.
        shape: voxels (I, J, K) on the common grid.
        spacing_mm: voxel size on the common grid.
        volumes_mm3: class name -> volume in its label map, as far as that is known; preprocessing
            may change it by some percent.
    """

    case: str
    center: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    volumes_mm3: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DataFacts:
    """What is known of the data before anything is computed.

    Attributes:
        labeled: the source scans that `fit` gets.
        target: the target scans that `fit` gets.
        applied: the scans that the stage is applied to, once it has learned.
        classes: class name -> label in label maps.
    """

    labeled: tuple[ScanFacts, ...]
    target: tuple[ScanFacts, ...]
    applied: tuple[ScanFacts, ...]
    classes: Mapping[str, int]


@dataclass(frozen=True)
class History:
    """The rounds of self-training so far.

    Attributes:
        rounds: the pseudo-labeled cohort of each, oldest first.
        source: the labeled source cohort, where `PseudoLabeler.reads_source` asks for it.
    """

    rounds: tuple[Cohort, ...] = ()
    source: Cohort | None = None


class Stage(HasOptions[OptionsT], ABC):
    """What all stages share: validated options, and their class as the type parameter."""

    code_of: ClassVar[tuple[str, ...]] = ()
    """Modules, distributions, and files or folders beside the module (as "data/weights.npy") that
    decide results, besides the plugin's own code: when they change, the steps of this stage are
    computed again. What the plugin's code imports counts without being named, unless another
    distribution brings it."""
    probes: ClassVar[bool] = True
    """Whether `crossmod run --dry-run` may try the stage on stand-ins to see what it costs; False
    if it starts other programs or cannot stop after a few steps."""

    def __init__(self, options: OptionsT | None = None) -> None:
        self.options: OptionsT = options or self.options_type()  # type: ignore[assignment]

    def check_data(self, data: DataFacts) -> Iterable[str]:
        """Yield what the options ask of the data and the data do not have. Default: nothing.

        `crossmod check --data` and `crossmod run` call it before anything is computed. Each line
        begins with the option it is about, as in "patch: ...", and stops the run; a line that
        starts with "warning: " is shown and does not.
        """
        del data
        return ()


class Translator(Stage[OptionsT]):
    """Makes images of one modality look like another. Geometry stays untouched."""

    def fit(self, source: Cohort, target: Cohort, ctx: Context) -> Arrays:
        """Learn from both modalities, unpaired. Default: nothing to learn.

        Args:
            source: images to translate; labels are there but a translator need not use them.
            target: images to look like; without labels.
            ctx: the run.

        Returns:
            What was learned: named arrays, or a `State` that holds notes, too.
        """
        del source, target, ctx
        return State()

    @abstractmethod
    def translate(self, volumes: Iterable[Volume], state: State, ctx: Context) -> Iterator[Volume]:
        """Yield the translation of each volume, in order: same case, same grid, in [0, 1].

        Args:
            volumes: images ``(1, I, J, K)`` in [0, 1], read one at a time.
            state: what `fit` returned, in this process or another.
            ctx: the run.
        """


class PairTranslator(Translator[OptionsT]):
    """A translator that looks at labels: every source image has them, no target image ever does."""

    @abstractmethod
    def translate_pairs(self, pairs: Iterable[Pair], state: State, ctx: Context) -> Iterator[Pair]:
        """Yield one or more translations of each pair; its label map stays as it is.

        One of a case is made by `Pair.with_data`, further ones by `Pair.copy_as`; in [0, 1].

        Args:
            pairs: images ``(1, I, J, K)`` in [0, 1] with label maps ``(I, J, K)``.
            state: what `fit` returned.
            ctx: the run.
        """

    def translate(self, volumes: Iterable[Volume], state: State, ctx: Context) -> Iterator[Volume]:
        """Refuse images without labels.

        Raises:
            PluginError: always.
        """
        raise PluginError("translates labeled images only", where=type(self).__name__)


class Augmenter(Stage[OptionsT]):
    """Adds rare appearances: any number of new labeled pairs from each pair."""

    def fit(self, labeled: Cohort, target: Cohort, ctx: Context) -> Arrays:
        """Learn from translated labeled images and real target images. Default: nothing.

        Args:
            labeled: translated images with their labels.
            target: images of the target modality, without labels.
            ctx: the run.

        Returns:
            What was learned: named arrays, or a `State` that holds notes, too.
        """
        del labeled, target, ctx
        return State()

    @abstractmethod
    def augment(self, pairs: Iterable[Pair], state: State, ctx: Context) -> Iterator[Pair]:
        """Yield new pairs made by `Pair.copy_as`; the originals are kept by the core.

        Args:
            pairs: translated images ``(1, I, J, K)`` in [0, 1] with label maps ``(I, J, K)``.
            state: what `fit` returned.
            ctx: the run.
        """


class Segmenter(Stage[OptionsT]):
    """Learns to outline structures and outlines them in new images."""

    warm_starts: ClassVar[bool] = False
    """Whether `fit` starts from `Context.start` if it is given."""
    weighs_cases: ClassVar[bool] = False
    """Whether `fit` heeds `Case.weight` and learns nothing where `Case.ignore` says so. Without it
    a recipe whose pseudo-labeler gives weights or masks is refused."""

    @abstractmethod
    def fit(self, train: Cohort, validation: Cohort, ctx: Context) -> Arrays:
        """Train on one fold.

        Args:
            train: labeled images.
            validation: labeled images of other patients, to watch; empty with one fold.
            ctx: the run.

        Returns:
            What was learned: named arrays, or a `State` that holds notes, too.
        """

    @abstractmethod
    def predict(
        self, volumes: Iterable[Volume], state: State, ctx: Context
    ) -> Iterator[Prediction]:
        """Yield class probabilities for each volume, in order, on its grid.

        Args:
            volumes: images ``(1, I, J, K)`` in [0, 1], read one at a time.
            state: what `fit` returned, in this process or another.
            ctx: the run. Probabilities are ``(1 + classes, I, J, K)``, background first.
        """


class PseudoLabeler(Stage[OptionsT]):
    """Decides which predictions on real target images to learn from, and when to stop."""

    @property
    def reads_folds(self) -> bool:
        """Whether `select` looks at `Prediction.folds`, which takes the core time to keep."""
        return False

    @property
    def reads_source(self) -> bool:
        """Whether `select` looks at `History.source`."""
        return False

    @property
    def gives_weights(self) -> bool:
        """Whether `select` may yield pairs with a weight or a mask; the segmenter must heed it."""
        return False

    @abstractmethod
    def select(
        self, predictions: Iterable[Prediction], history: History, ctx: Context
    ) -> Iterator[Pair]:
        """Yield labeled pairs from predictions: keep, clean or drop each.

        What it notes of a case by ``ctx.metric(case=..., kept="yes", why="", ...)`` becomes a row
        of the run's ``ledger.csv``; ``kept="no"`` shows the case in the report, with its ``why``.

        Args:
            predictions: of the images of the target, read one at a time.
            history: the rounds before this one.
            ctx: the run.
        """

    @abstractmethod
    def done(self, history: History) -> bool:
        """Whether self-training should stop, since another round would change too little.

        Args:
            history: the pseudo-labels so far; the newest were made after the last training.
        """
