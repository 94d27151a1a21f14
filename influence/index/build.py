"""The build of an index, cut into steps that any process may do, in any order within a stage, any number of times.

The first stages fit EK-FAC in two passes over the items (Grosse et al. 2023), the later ones embed every item. A step
reads files of earlier stages, computes, and writes files of its own beside their place. They are renamed when they are
complete, and the last file is the sign that the step is done. A killed build therefore goes on where it stopped, a step
done twice writes the same bytes, and processes that share the directory share the work. The finished directory takes
its name in one step. Memory is bounded by a part of the fit or a shard, never by the number of items (but for their
labels, 32 bytes each). Knows nothing of Django, of the caller that starts a step, or of rows that record its progress.
"""

from __future__ import annotations

import glob
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from influence import curvature, ensemble
from influence.adapters import Example, LoadedModel, UnableToEmbed
from influence.ensemble import Node, Progress, Tensors
from influence.gradients.layers import UnableToTrace
from influence.index import artefacts, sums, tails
from influence.index.artefacts import Manifest, UnableToBuildIndex
from influence.index.config import IndexConfig
from influence.index.files import MEAN_QUERY, OWN, files_of, load_members, save_tensors, write_json
from influence.index.shards import Array, Items, Shard, describe_shard, labels_of_works, save_array, write_shard
from influence.index.sources import Source

FORMAT = "tributary-index/3"
PLAN, LABELS, ORDER = "work-plan.json", "work-labels.npy", "work-order.npy"
STAGES = (
    "moments", "eigenvectors", "squares", "factors", "sample", "basis", "items", "mean", "sums", "finish",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of work; `member` and `part` count within its stage."""

    stage: str
    member: int = 0
    part: int = 0

    @property
    def name(self) -> str:
        return f"{self.stage}-{self.member}-{self.part:05d}"


def draft_of(directory: Path) -> Path:
    """Find the working folder of the index's planned build. Raises UnableToBuildIndex where none is planned."""
    planned = [draft for draft in drafts_of(directory) if (draft / PLAN).exists()]
    if len(planned) != 1:
        raise UnableToBuildIndex(f"No build of {directory.name} is planned here: begin it again.")
    return planned[0]


def drafts_of(directory: Path) -> list[Path]:
    """List the working folders of the index's builds, begun under any plan."""
    return list(directory.parent.glob(f".{glob.escape(directory.name)}.*.draft"))


def planned_works(draft: Path) -> Array:
    """Return holder, work and cluster (3, W) of the works with items in a planned build, as the build has them."""
    return labels_of_works(np.load(draft / LABELS, mmap_mode="r"))


class Build:
    """A planned build. `run` does a step; `stages` says which there are and in which order stages follow.

    `source` has the items that were planned; raises UnableToBuildIndex where it has others.
    """

    def __init__(self, directory: Path, *, model: LoadedModel, source: Source) -> None:
        self.directory = directory
        self.draft = draft_of(directory)
        self.model = model
        self.source = source
        self.plan: dict[str, Any] = json.loads((self.draft / PLAN).read_text())
        self.config = IndexConfig.from_json(self.plan["config"])
        # Steps name items by their positions: among other items these would be other works' texts.
        if not np.array_equal(source.labels()[1], np.load(self.draft / LABELS, mmap_mode="r")[1]):
            raise UnableToBuildIndex(f"The items are not those that the build of {directory.name} was planned for.")

    # --- what there is to do ------------------------------------------------------------------------------------------
    def stages(self) -> list[list[Step]]:
        """Steps of one stage do not need each other; every stage needs all those before it."""
        members, (fit, sample, shards) = self.plan["members"], self._counts()
        counts = {
            "moments": (members, fit),
            "eigenvectors": (members, 1),
            "squares": (members, fit),
            "factors": (members, 1),
            "sample": (members, sample),
            "basis": (members, 1),
            "items": (1, shards),
            "mean": (1, 1),
            "sums": (1, shards),
            "finish": (1, 1),
        }
        return [
            [Step(stage, *place) for place in itertools.product(*(range(count) for count in counts[stage]))]
            for stage in STAGES
        ]

    def _counts(self) -> tuple[int, int, int]:
        """Parts of the fit, parts of the PCA's sample, shards."""
        items, size = self.plan["items"], self.config.part_items
        fit, sample = min(self.config.fit_items, items), min(self.config.pca_items, items)
        return _ceil(fit, size), _ceil(sample, size), _ceil(items, self.config.shard_items)

    def is_done(self, step: Step) -> bool:
        return self.directory.exists() or (step.stage != "finish" and (self.draft / self._sign(step)).exists())

    def _sign(self, step: Step) -> str:
        """The file that a step writes last."""
        return {
            "basis": f"member-{step.member}.safetensors",
            "items": f"items-{step.part:05d}.labels.npy",
            "mean": MEAN_QUERY,
            "sums": f"work-{step.name}.holders.npy",
            "sample": f"work-{step.name}.npy",
        }.get(step.stage, f"work-{step.name}.safetensors")

    def run(self, step: Step, progress: Progress | None = None) -> None:
        """Do a step, or find it done. Raises UnableToBuildIndex where an item or the model is at fault."""
        report = progress or silent
        if self.is_done(step):
            return
        try:
            _DO[step.stage](self, step, report)
        except UnableToTrace as reason:
            raise UnableToBuildIndex(str(reason)) from reason
        except FileNotFoundError:
            if self.directory.exists():
                # Somebody else finished the build, and its directory has its name.
                return
            if not self.draft.exists():
                raise UnableToBuildIndex(f"The build of {self.directory.name} was planned anew meanwhile.") from None
            raise

    # --- the steps ----------------------------------------------------------------------------------------------------
    def _moments(self, step: Step, report: Progress) -> None:
        found = ensemble.moments(
            self.model,
            self._state(step),
            self.config,
            self._fit_part(step),
            seed=self._seed(step),
            progress=self._told(step, "factors", len(self._fit_positions), report),
        )
        self._check_finite(step, found, self._part(self._fit_positions, step.part))
        self._save(step, found)

    def _eigenvectors(self, step: Step, report: Progress) -> None:
        self._save(step, ensemble.eigenvectors(self._summed("moments", step.member)))

    def _squares(self, step: Step, report: Progress) -> None:
        found = ensemble.squares(
            self.model,
            self._state(step),
            self.config,
            self._fit_part(step),
            self._load("eigenvectors", step.member),
            seed=self._seed(step),
            progress=self._told(step, "eigenvalues", len(self._fit_positions), report),
        )
        self._check_finite(step, found, self._part(self._fit_positions, step.part))
        self._save(step, found)

    def _factors(self, step: Step, report: Progress) -> None:
        vectors, squared = self._load("eigenvectors", step.member), self._summed("squares", step.member)
        self._save(step, ensemble.factors(vectors, squared, count=len(self._fit_positions)))

    def _sample(self, step: Step, report: Progress) -> None:
        positions = self._sample_positions
        found = ensemble.whitened(
            self.model,
            self._state(step),
            self.config,
            self._load("factors", step.member),
            self.examples(self._part(positions, step.part)),
            progress=self._told(step, "features", len(positions), report),
        )
        self._check_finite(step, {"features": found}, self._part(positions, step.part))
        save_array(self.draft / self._sign(step), found.numpy())

    def _basis(self, step: Step, report: Progress) -> None:
        _, parts, _ = self._counts()
        files = [self.draft / self._sign(Step("sample", step.member, part)) for part in range(parts)]
        mapped = [np.load(file, mmap_mode="r") for file in files]
        nodes, energy = range(len(mapped[0])), curvature.Energy()
        # One node at a time: a sample is a hundred times larger than its result.
        sample = (torch.from_numpy(np.concatenate([part[node] for part in mapped])) for node in nodes)
        fitted, known = ensemble.fit_basis(
            self.model, self._state(step), self.config, self._load("factors", step.member), sample, energy=energy
        )
        if self._covers_all:
            save_array(self.draft / f"work-known-{step.member}.npy", known.numpy())
        manifest = {"energy": fitted[0].basis.energy, "captured": energy.part, "layers": list(fitted[0].basis.layers)}
        manifest |= _parameters(fitted[0])
        write_json(self.draft / f"work-basis-{step.member}.json", manifest)
        save_tensors(self.draft / self._sign(step), ensemble.to_tensors(fitted))
        for file in files:
            file.unlink(missing_ok=True)

    def _items(self, step: Step, report: Progress) -> None:
        size = self.config.shard_items
        order = np.load(self.draft / ORDER, mmap_mode="r")[step.part * size : (step.part + 1) * size]
        labels = np.load(self.draft / LABELS, mmap_mode="r")[:, order]
        if self._covers_all:
            # The projection was fitted on all items: their gradients are known.
            by_member = [
                np.load(self.draft / f"work-known-{member}.npy", mmap_mode="r")[order]
                for member in range(self.plan["members"])
            ]
            found = np.stack(by_member, 1)
        else:
            members = self.plan["members"]

            def told(_: str, done: int, total: int) -> None:
                report("items", members * step.part * size + done, members * self.plan["items"])

            examples = self.examples(order.tolist())
            found = ensemble.embed(self.members, examples, self.config.batch, told).numpy()
        unfit = np.flatnonzero(~np.isfinite(found).reshape(len(found), -1).all(axis=1))
        if len(unfit):
            raise self._not_finite(int(order[unfit[0]]))
        write_shard(self.draft, f"items-{step.part:05d}", found, labels, divisor=self.plan["items"])
        if self._covers_all:
            report("items", step.part * size + len(order), self.plan["items"])

    def _mean(self, step: Step, report: Progress) -> None:
        mean_of = [Example(tuple(tokens), prompt, bytes.fromhex(data)) for tokens, prompt, data in self.plan["mean_of"]]
        if mean_of:
            own = ensemble.embed(self.members, mean_of, self.config.batch, report, "mean query").numpy()
            save_array(self.draft / OWN, own)
            found = own.mean(0)
        else:
            items = Items(self.draft, self._shards())
            total: Array = np.zeros(())
            for _, part in items.chunks(items.alive):
                total = total + part.sum(0, dtype=np.float64)
            # Rows are scaled by 1 / N already: their sum is the mean of the gradients.
            found = total.astype(np.float32)
        save_array(self.draft / MEAN_QUERY, found)

    def _sums(self, step: Step, report: Progress) -> None:
        owners = sums.owners_of_clusters(np.load(self.draft / LABELS, mmap_mode="r"))
        items = Items(self.draft, self._shards()[step.part : step.part + 1])
        sums.save(self.draft, f"work-{step.name}", sums.sum_by_holder(items, items.alive, owners))

    def _finish(self, step: Step, report: Progress) -> None:
        shards = self._shards()
        sums.merge(self.draft, [f"work-{Step('sums', 0, part).name}" for part in range(len(shards))])
        of_members = [
            json.loads((self.draft / f"work-basis-{member}.json").read_text()) for member in range(self.plan["members"])
        ]
        labels = np.load(self.draft / LABELS, mmap_mode="r")
        tails_file = None
        if self.plan["mean_of"]:
            tails_file = tails.freeze(self.draft, Items(self.draft, shards), np.load(self.draft / OWN))
        manifest: Manifest = {
            **self.plan["describes"],
            **{name: of_members[-1][name] for name in ("layers", "parameters_traced", "parameters")},
            "energy": [of_member["energy"] for of_member in of_members],
            "captured": [of_member["captured"] for of_member in of_members],
            "revision": 1,
            "shards": [shard.to_json() for shard in shards],
            "removed_file": None,
            "tails_file": tails_file,
            "overlay": None,
            "added": {"items": 0, "energy_whole": 0.0, "energy_held": 0.0},
            "counts": {
                "items": self.plan["items"],
                "works": len(np.unique(labels[1])),
                "holders": np.load(self.draft / sums.HOLDERS, mmap_mode="r").shape[1],
                "removed_items": 0,
            },
        }
        artefacts.write_manifest(self.draft, manifest, files_of(manifest))
        os.replace(self.draft, self.directory)
        artefacts.drop_strangers(self.directory)

    # --- what steps read ----------------------------------------------------------------------------------------------
    @cached_property
    def members(self) -> list[list[Node]]:
        return load_members(self.draft, self.model, self.config, self._layers)

    @cached_property
    def _layers(self) -> list[str]:
        found: list[str] = json.loads((self.draft / "work-basis-0.json").read_text())["layers"]
        return found

    @cached_property
    def _fit_positions(self) -> list[int]:
        return ensemble.sample_positions(self.plan["items"], self.config.fit_items, self.config.seed)

    @cached_property
    def _sample_positions(self) -> list[int]:
        return ensemble.sample_positions(self.plan["items"], self.config.pca_items, self.config.seed + 1)

    @property
    def _covers_all(self) -> bool:
        return self.config.pca_items >= int(self.plan["items"])

    def _state(self, step: Step) -> Mapping[str, Tensor]:
        return self.model.checkpoints[step.member]

    def _seed(self, step: Step) -> int:
        # Parts draw their labels apart, and both passes over a part the same.
        return self.config.seed + 7_919 * step.part

    def _fit_part(self, step: Step) -> list[Example]:
        return self.examples(self._part(self._fit_positions, step.part))

    def _part(self, positions: Sequence[int], part: int) -> Sequence[int]:
        size = self.config.part_items
        return positions[part * size : (part + 1) * size]

    def examples(self, positions: Sequence[int]) -> list[Example]:
        """Read these items as the model reads them. Raises UnableToBuildIndex, naming an item that it cannot read."""
        found = self.source.examples(positions)
        for position, example in zip(positions, found, strict=True):
            try:
                self.model.adapter.check(example)
            except UnableToEmbed as reason:
                work = np.load(self.draft / LABELS, mmap_mode="r")[1, position]
                raise UnableToBuildIndex(f"Item {position}, of work {work}: {reason}") from reason
        return found

    def _check_finite(self, step: Step, found: Mapping[str, Tensor], positions: Sequence[int]) -> None:
        """Raise UnableToBuildIndex, naming the item, where a sum over these items is no finite number."""
        if all(bool(values.isfinite().all()) for values in found.values()):
            return
        bad = ensemble.first_not_finite(self.model, self._state(step), self.config, self.examples(positions))
        if bad is None:
            first, last = positions[0], positions[-1]
            raise UnableToBuildIndex(
                f"The gradients of items {first} to {last} together are not finite: the model's checkpoint "
                f"{step.member + 1} overflows."
            )
        raise self._not_finite(positions[bad[0]], bad[1])

    def _not_finite(self, position: int, layer: str = "") -> UnableToBuildIndex:
        work = np.load(self.draft / LABELS, mmap_mode="r")[1, position]
        where = f" in layer {layer!r}" if layer else ""
        return UnableToBuildIndex(
            f"The gradients{where} of item {position}, an item of work {work} are not finite: the model cannot read "
            "it. Leave the item out of the manifest, or mend the model."
        )

    def _told(self, step: Step, stage: str, total: int, report: Progress) -> Progress:
        before = step.part * self.config.part_items
        label = f"{stage} {step.member + 1}/{self.plan['members']}"
        return lambda _, done, __: report(label, before + done, total)

    def _shards(self) -> list[Shard]:
        return [describe_shard(self.draft, f"items-{part:05d}") for part in range(self._counts()[2])]

    def _save(self, step: Step, tensors: Tensors) -> None:
        save_tensors(self.draft / self._sign(step), tensors)

    def _load(self, stage: str, member: int, part: int = 0) -> Tensors:
        loaded: Tensors = load_file(self.draft / self._sign(Step(stage, member, part)))
        return loaded

    def _summed(self, stage: str, member: int) -> Tensors:
        """Add parts in their order, so that the sum does not depend on the order in which they finished."""
        parts, _, _ = self._counts()
        total = self._load(stage, member)
        for part in range(1, parts):
            for name, values in self._load(stage, member, part).items():
                total[name] += values
        return total


_DO: Mapping[str, Callable[[Build, Step, Progress], None]] = {stage: getattr(Build, f"_{stage}") for stage in STAGES}


def _parameters(node: Node) -> dict[str, int]:
    layers = node.tracer.layers.values()
    return {
        "parameters_traced": sum(p.numel() for layer in layers for p in layer.parameters()),
        "parameters": sum(p.numel() for p in node.tracer.adapter.module.parameters()),
    }


def _ceil(count: int, size: int) -> int:
    return -(-count // size)


def silent(stage: str, done: int, total: int) -> None:
    """Nobody asked to be told."""


def in_turn(build: Build) -> Iterator[Step]:
    """Every step, in an order in which one process can do them."""
    return itertools.chain.from_iterable(build.stages())
