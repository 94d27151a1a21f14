"""A model version's identity and training set: a checkpoint kept by its digest, and permitted works."""

from __future__ import annotations

import copy
import shutil
import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import DatabaseError, transaction

from attribution.models import ManifestWork, ModelService, ModelVersion, TrainingItem, TrainingManifest
from attribution.operations import factories, indexes, manifests, model_services, model_versions
from attribution.operations.checkpoints import digest_of_directory
from attribution.queries.model_versions import models_trained_on
from contributors.operations import consents, people
from contributors.operations.works import NewWork, register_dataset, register_works
from tests.worlds.programme import Programme
from tests.worlds.trained import TRAINED_AT, Trained


@pytest.fixture
def checkpoint(trained: Trained, tmp_path: Path) -> Path:
    """The directory that training left behind, with a file of its own in a folder."""
    directory = tmp_path / "checkpoint"
    shutil.copytree(trained.directory, directory)
    (directory / "notes").mkdir()
    (directory / "notes" / "run.txt").write_text("third run")
    return directory


@pytest.fixture
def register(indexed: Programme, checkpoint: Path) -> Any:
    def registered(**changes: Any) -> ModelVersion:
        given: dict[str, Any] = {
            "service": indexed.service,
            "name": "orator-2",
            "adapter": "causal_lm",
            "factory": "demo",
            "purpose": "train_generative",
            "config": {},
            "directory": checkpoint,
            "trained_at": TRAINED_AT,
            "at": indexed.at,
        }
        return model_versions.register_model_version(**{**given, **changes})

    return registered


def items(programme: Programme, *works: int) -> list[manifests.NewItem]:
    return [
        manifests.NewItem(programme.works[work].pk, ordinal, ordinal * 10, ordinal * 10 + 10)
        for ordinal, work in enumerate(works)
    ]


# --- model versions -------------------------------------------------------------------------------------------------
def test_a_checkpoint_is_kept_under_the_digest_of_its_files(register: Any, checkpoint: Path) -> None:
    version = register()
    kept = Path(settings.TRIBUTARY_DATA) / version.directory
    files = sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file())
    assert "notes/run.txt" in files
    assert (
        digest_of_directory(directory=kept)
        == bytes(version.checkpoint_sha256)
        == digest_of_directory(directory=checkpoint)
    )
    assert kept.name == bytes(version.checkpoint_sha256).hex()
    assert version.initial_sha256 is not None
    assert version.state == "registered"


def test_the_digest_depends_on_every_name_and_every_byte(checkpoint: Path) -> None:
    digests = {digest_of_directory(directory=checkpoint)}
    (checkpoint / "config.json").write_text("{} ")
    digests.add(digest_of_directory(directory=checkpoint))
    (checkpoint / "config.json").rename(checkpoint / "notes" / "config.json")
    digests.add(digest_of_directory(directory=checkpoint))
    assert len(digests) == 3


def test_the_same_checkpoint_is_kept_once(register: Any, checkpoint: Path) -> None:
    first, second = register(name="a"), register(name="b")
    assert first.directory == second.directory
    models = Path(settings.TRIBUTARY_DATA) / "models"
    assert not [path for path in models.iterdir() if path.name.startswith(".")]


def test_a_copy_that_fails_leaves_nothing_behind(register: Any, checkpoint: Path) -> None:
    before = sorted(path.name for path in (Path(settings.TRIBUTARY_DATA) / "models").iterdir())
    (checkpoint / "z").symlink_to("/etc/passwd")
    with pytest.raises(model_versions.UnableToRegisterModelVersion, match="link"):
        register()
    assert sorted(path.name for path in (Path(settings.TRIBUTARY_DATA) / "models").iterdir()) == before
    assert not ModelVersion.objects.filter(name="orator-2").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"adapter": "oracle"}, "causal_lm"),
        ({"factory": "os.system"}, "demo"),
        ({"name": ""}, "letters"),
        ({"name": "a b"}, "letters"),
        ({"name": "acme/flow-1"}, "no slash"),
        ({"name": "../../etc"}, "letters"),
        ({"name": "x" * 101}, "letters"),
        ({"name": "orator-1"}, "already"),
        ({"directory": Path("/nowhere")}, "no directory"),
        ({"directory": None}, "needs a checkpoint"),
        ({"adapter": "encoder"}, "makes a model of the adapter causal_lm, not encoder"),
        ({"factory": "pushed"}, "factory pushed cannot load it: FileNotFoundError"),
        ({"purpose": "fun"}, "one of the uses of a consent: ai_index"),
        ({"licence": "x" * 201}, "licence has up to 200"),
        ({"training_started_at": TRAINED_AT + timedelta(seconds=1)}, "cannot begin"),
        ({"trained_at": datetime.fromisoformat("2026-11-20T12:00:01Z")}, "future"),
    ],
)
def test_a_model_version_that_cannot_be_loaded_later_is_refused(
    register: Any, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(model_versions.UnableToRegisterModelVersion, match=reason):
        register(**change)


def test_an_empty_checkpoint_is_refused(register: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(model_versions.UnableToRegisterModelVersion, match="no file"):
        register(directory=tmp_path / "empty")


def test_another_service_may_use_the_name(register: Any, indexed: Programme) -> None:
    stranger: ModelService = model_services.register_service(name="stranger", at=indexed.at)
    assert register(service=stranger, name=indexed.model_version.name).pk != indexed.model_version.pk


@pytest.mark.parametrize("change", [{"checkpoint_sha256": b"x" * 32}, {"factory": "other"}, {"state": "registered"}])
def test_a_model_version_stays_what_it_was_registered_as(indexed: Programme, change: dict[str, Any]) -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        ModelVersion.objects.filter(pk=indexed.model_version.pk).update(**change)


def test_a_model_version_is_retired_once(register: Any) -> None:
    version = register()
    model_versions.retire_model_version(model_version=version, at=TRAINED_AT)
    with pytest.raises(model_versions.UnableToRetireModelVersion):
        model_versions.retire_model_version(model_version=version, at=TRAINED_AT)


@pytest.mark.parametrize("purpose", [None, "", "fun"])
def test_the_database_holds_a_version_to_a_purpose_of_consent(indexed: Programme, purpose: str | None) -> None:
    version = copy.copy(indexed.model_version)
    version.pk, version.name, version.public_id, version.purpose = None, "other", uuid.uuid4(), purpose  # type: ignore[assignment]
    with pytest.raises(DatabaseError), transaction.atomic():
        version.save(force_insert=True)


def test_a_refused_registration_leaves_no_checkpoint_in_the_store(register: Any) -> None:
    models = Path(settings.TRIBUTARY_DATA) / "models"
    before = sorted(models.iterdir())
    with pytest.raises(model_versions.UnableToRegisterModelVersion, match="register it as causal_lm"):
        register(adapter="classifier")
    assert sorted(models.iterdir()) == before


def test_a_version_is_superseded_by_one_with_a_manifest(register: Any, indexed: Programme) -> None:
    old, new = register(name="old"), register(name="new")
    supersede = model_versions.supersede_model_version
    with pytest.raises(model_versions.UnableToRetireModelVersion, match="has no training manifest yet"):
        supersede(model_version=old, successor=new, at=indexed.at)
    with pytest.raises(model_versions.UnableToRetireModelVersion, match="its own place"):
        supersede(model_version=old, successor=old, at=indexed.at)
    manifests.register_manifest(model_version=new, items=items(indexed, 0), at=indexed.at)
    assert supersede(model_version=old, successor=new, at=indexed.at).state == "retired"
    old.refresh_from_db()
    assert old.superseded_by == new
    with pytest.raises(model_versions.UnableToRetireModelVersion, match="retired already"):
        supersede(model_version=old, successor=new, at=indexed.at)
    with pytest.raises(DatabaseError), transaction.atomic():
        ModelVersion.objects.filter(pk=old.pk).update(superseded_by=None)


# --- purposes -------------------------------------------------------------------------------------------------------
def test_a_fine_tune_with_a_work_whose_owner_refused_fine_tuning_is_refused_by_name(
    register: Any, indexed: Programme
) -> None:
    for number in (0, 1):
        consents.grant_consent(
            contributor=indexed.contributors[number],
            scope="fine_tune",
            valid_from=TRAINED_AT - timedelta(days=5),
            by=indexed.user,
            source="test",
            at=TRAINED_AT - timedelta(days=5),
        )
    consents.withdraw_consent(
        contributor=indexed.contributors[1],
        scope="fine_tune",
        valid_from=TRAINED_AT - timedelta(days=1),
        by=indexed.user,
        at=TRAINED_AT - timedelta(days=1),
    )
    tune = register(purpose="fine_tune")
    with pytest.raises(manifests.UnableToRegisterManifest) as refused:
        manifests.register_manifest(model_version=tune, items=items(indexed, 0, 1, 2, 1), at=indexed.at)
    first, second = refused.value.members["refused"]
    # The owner of the second work refused; the owner of the third has said nothing about fine-tuning.
    assert (first["title"], first["reason"], first["lines"]) == (indexed.works[1].title, "refused", [2, 4])
    assert "its owner refused fine-tuning on 1 Nov 2026" in first["detail"]
    assert first["consent"] is not None
    assert (second["title"], second["reason"], second["consent"]) == (indexed.works[2].title, "no-consent", None)
    assert indexed.works[1].title in str(refused.value)
    assert indexed.works[2].title in str(refused.value)
    # The same works are allowed for a training, which is another purpose.
    train = register(name="base")
    manifests.register_manifest(model_version=train, items=items(indexed, 0, 1, 2, 1), at=indexed.at)
    manifests.register_manifest(model_version=tune, items=items(indexed, 0), at=indexed.at)
    (proof,) = ManifestWork.objects.filter(manifest__model_version=tune)
    assert proof.consent.scope == "fine_tune"


def test_consent_must_hold_over_the_whole_training(register: Any, indexed: Programme) -> None:
    """Allowed before and after, refused between: the end of the training alone would not show it."""
    contributor, hour = indexed.contributors[0], timedelta(hours=1)
    consents.withdraw_consent(
        contributor=contributor,
        scope="train_generative",
        valid_from=TRAINED_AT - 20 * hour,
        by=indexed.user,
        at=TRAINED_AT - 20 * hour,
    )
    consents.grant_consent(
        contributor=contributor,
        scope="train_generative",
        valid_from=TRAINED_AT - 2 * hour,
        by=indexed.user,
        source="test",
        at=TRAINED_AT - 2 * hour,
    )
    spans = {"known": TRAINED_AT - 23 * hour, "late": TRAINED_AT - 1 * hour, "unknown": None}
    versions = {name: register(name=name, training_started_at=start) for name, start in spans.items()}
    with pytest.raises(manifests.UnableToRegisterManifest, match=r"refused training .* on 31 Oct 2026, 04:00"):
        manifests.register_manifest(model_version=versions["known"], items=items(indexed, 0, 1), at=indexed.at)
    for name in ("late", "unknown"):
        manifests.register_manifest(model_version=versions[name], items=items(indexed, 0, 1), at=indexed.at)


def test_a_permission_that_ends_during_the_training_is_not_enough(register: Any, indexed: Programme) -> None:
    consents.grant_consent(
        contributor=indexed.contributors[0],
        scope="fine_tune",
        valid_from=TRAINED_AT - timedelta(days=5),
        valid_to=TRAINED_AT - timedelta(days=1),
        by=indexed.user,
        source="test",
        at=TRAINED_AT - timedelta(days=5),
    )
    version = register(purpose="fine_tune", training_started_at=TRAINED_AT - timedelta(days=2))
    with pytest.raises(manifests.UnableToRegisterManifest, match="no consent to fine-tuning was in force on 31 Oct"):
        manifests.register_manifest(model_version=version, items=items(indexed, 0), at=indexed.at)


def test_a_copy_of_a_work_whose_owner_refused_is_refused(register: Any, indexed: Programme) -> None:
    """Exact bytes of a refused work, registered later by somebody who allows the training."""
    copier, original = indexed.contributors[3], indexed.works[0]
    day = TRAINED_AT - timedelta(days=2)
    dataset = register_dataset(contributor=copier, name="Found", description="", licence="mine", at=day)
    content = (Path(settings.TRIBUTARY_DATA) / original.content_path).read_bytes()
    (copied,) = register_works(dataset=dataset, works=[NewWork("Found text", "text", content)], at=day)
    item = [manifests.NewItem(copied.pk, 0, 0, 10)]
    manifests.register_manifest(model_version=register(name="before"), items=item, at=indexed.at)
    consents.withdraw_consent(
        contributor=indexed.contributors[0], scope="train_generative", valid_from=day, by=indexed.user, at=day
    )
    with pytest.raises(manifests.UnableToRegisterManifest, match="“Found text” has the same bytes") as refused:
        manifests.register_manifest(model_version=register(name="after"), items=item, at=indexed.at)
    (named,) = refused.value.members["refused"]
    assert (named["reason"], named["work"], named["lines"]) == ("refused-copy", str(copied.public_id), [1])
    assert named["consent"] is not None


# --- manifests ------------------------------------------------------------------------------------------------------
def test_a_manifest_names_its_works_each_with_the_consent_that_allowed_it(register: Any, indexed: Programme) -> None:
    version = register()
    manifest = manifests.register_manifest(model_version=version, items=items(indexed, 0, 1, 1), at=indexed.at)
    version.refresh_from_db()
    assert (manifest.n_items, manifest.n_works, version.state) == (3, 2, "ready")
    proofs = {proof.work_id: proof.consent for proof in ManifestWork.objects.filter(manifest=manifest)}
    assert proofs.keys() == {indexed.works[0].pk, indexed.works[1].pk}
    assert all(
        (consent.scope, consent.value) == ("train_generative", "allow")
        and consent.contributor == indexed.contributors[position]
        for position, consent in enumerate(proofs.values())
    )


def test_a_work_without_consent_refuses_the_manifest_and_is_named(register: Any, indexed: Programme) -> None:
    consents.withdraw_consent(
        contributor=indexed.contributors[1],
        scope="train_generative",
        valid_from=TRAINED_AT - timedelta(days=1),
        by=indexed.user,
        at=TRAINED_AT - timedelta(days=1),
    )
    version = register()
    with pytest.raises(manifests.UnableToRegisterManifest, match=indexed.works[1].title) as refused:
        manifests.register_manifest(model_version=version, items=items(indexed, 0, 1, 2), at=indexed.at)
    (named,) = refused.value.members["refused"]
    assert (named["work"], named["reason"]) == (str(indexed.works[1].public_id), "refused")
    assert named["lines"] == [2]
    assert (refused.value.status, refused.value.problem) == (422, "unable-to-register-manifest")
    version.refresh_from_db()
    assert version.state == "registered"
    assert not TrainingManifest.objects.filter(model_version=version).exists()


def test_a_consent_given_after_the_training_came_too_late(register: Any, indexed: Programme) -> None:
    newcomer = people.register_contributor(
        user=indexed.user,
        kind="person",
        legal_name="A. Newcomer",
        display_name="A. Newcomer",
        country="DE",
        at=indexed.at,
    )
    dataset = register_dataset(
        contributor=newcomer, name="Letters", description="", licence="all rights reserved", at=indexed.at
    )
    (work,) = register_works(dataset=dataset, works=[NewWork("A letter", "text", b"Dear reader, " * 50)], at=indexed.at)
    consents.grant_consent(
        contributor=newcomer,
        scope="train_generative",
        valid_from=indexed.at,
        by=indexed.user,
        source="test",
        at=indexed.at,
    )
    item = manifests.NewItem(work.pk, 0, 0, 10)
    with pytest.raises(manifests.UnableToRegisterManifest, match="A letter"):
        manifests.register_manifest(model_version=register(), items=[item], at=indexed.at)
    later = register(name="orator-3", trained_at=indexed.at)
    manifests.register_manifest(model_version=later, items=[item], at=indexed.at)


def test_a_consent_withdrawn_after_the_training_does_not_undo_the_manifest(register: Any, indexed: Programme) -> None:
    consents.withdraw_consent(
        contributor=indexed.contributors[0],
        scope="train_generative",
        valid_from=indexed.at,
        by=indexed.user,
        at=indexed.at,
    )
    manifests.register_manifest(model_version=register(), items=items(indexed, 0), at=indexed.at)


def test_the_digest_of_a_manifest_depends_on_every_item_and_not_on_their_order(
    register: Any, indexed: Programme
) -> None:
    given = items(indexed, 0, 1, 2)
    variants = [given, given[::-1], given[:2], [*given[:2], replace(given[2], token_end=29)]]
    digests = [
        bytes(
            manifests.register_manifest(model_version=register(name=f"v{number}"), items=variant, at=indexed.at).sha256
        )
        for number, variant in enumerate(variants)
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"work_id": 2**40}, "no work"),
        ({"ordinal": 0}, "used once"),
        ({"ordinal": -1}, "used once"),
        ({"token_start": 20}, "no range"),
        ({"token_start": -1}, "no range"),
    ],
)
def test_items_that_are_not_well_formed_are_refused(
    register: Any, indexed: Programme, change: dict[str, Any], reason: str
) -> None:
    first, second = items(indexed, 0, 1)
    with pytest.raises(manifests.UnableToRegisterManifest, match=reason):
        manifests.register_manifest(model_version=register(), items=[first, replace(second, **change)], at=indexed.at)


def test_a_manifest_has_items_and_is_registered_once(register: Any, indexed: Programme) -> None:
    version = register()
    with pytest.raises(manifests.UnableToRegisterManifest, match="not 0"):
        manifests.register_manifest(model_version=version, items=[], at=indexed.at)
    manifests.register_manifest(model_version=version, items=items(indexed, 0), at=indexed.at)
    again = manifests.register_manifest(model_version=version, items=items(indexed, 0), at=indexed.at)
    assert TrainingManifest.objects.get(model_version=version) == again
    with pytest.raises(manifests.UnableToRegisterManifest, match="has its manifest, which has other items"):
        manifests.register_manifest(model_version=version, items=items(indexed, 0, 1), at=indexed.at)


def test_a_manifest_never_changes(indexed: Programme) -> None:
    for rows in (TrainingManifest.objects, ManifestWork.objects, TrainingItem.objects):
        with pytest.raises(DatabaseError), transaction.atomic():
            rows.all().delete()
    with pytest.raises(DatabaseError), transaction.atomic():
        TrainingItem.objects.update(token_end=5)


def test_a_contributor_sees_which_models_contain_its_works(indexed: Programme) -> None:
    (proof,) = models_trained_on(indexed.contributors[0])
    assert proof.manifest.model_version == indexed.model_version
    assert proof.work == indexed.works[0]


def test_a_checkpoint_that_was_tampered_with_is_not_indexed(programme: Programme) -> None:
    kept = Path(settings.TRIBUTARY_DATA) / programme.model_version.directory
    (kept / "config.json").write_bytes((kept / "config.json").read_bytes() + b" ")
    with pytest.raises(factories.UnableToLoadModel, match="not those that were registered"):
        indexes.build_index(model_version=programme.model_version, at=programme.at)
    shutil.rmtree(kept)
    with pytest.raises(factories.UnableToLoadModel, match="are not at"):
        indexes.build_index(model_version=programme.model_version, at=programme.at)
