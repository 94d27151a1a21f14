"""`tributary models push|list|retire|supersede`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tributary.cli.output import DONE, REFUSED, Output, refused_line
from tributary.client import Tributary
from tributary.errors import InvalidInput
from tributary.logins import note_upload, unfinished_upload
from tributary.uploads import read_checkpoint


def push(client: Tributary, options: argparse.Namespace, output: Output) -> int:
    """Upload a checkpoint, register its version, and store its manifest."""
    config = config_of(options.config)
    if options.manifest and not Path(options.manifest).is_file():
        raise InvalidInput(f"there is no file {options.manifest}", field="--manifest")
    upload = None
    if options.directory:
        checkpoint = read_checkpoint(options.directory, on_progress=output.progress)
        before = unfinished_upload(client.url, checkpoint.sha256)
        pushed = client.uploads.push(
            checkpoint,
            resume=before,
            on_progress=output.progress,
            on_open=lambda number: note_upload(client.url, checkpoint.sha256, number),
        )
        upload = pushed["id"]
    elif options.factory != "pushed" and not options.sha256:
        raise InvalidInput("give the directory of the checkpoint, or --sha256", field="DIR")
    version = client.model_versions.register(
        name=options.name,
        adapter=options.adapter,
        factory=options.factory,
        purpose=options.purpose,
        trained_at=options.trained_at,
        training_started_at=options.training_started_at,
        base_model=options.base_model,
        licence=options.licence,
        config=config,
        also_traced=options.also_traced or (),
        upload=upload,
        sha256=options.sha256,
    )
    if options.directory:
        note_upload(client.url, checkpoint.sha256, None)
    output.note(f"{version['name']} is {version['state']}, for {version.get('purpose', options.purpose)}.")
    document: dict[str, Any] = {"model_version": version}
    lines = [f"Registered {version['name']} with the checkpoint {version.get('checkpoint_sha256') or 'pushed'}."]
    if options.manifest:
        document["manifest"] = client.manifests.push(options.name, options.manifest, on_progress=output.progress)
        lines.append(_stored(document["manifest"]))
    output.result(document, *lines)
    return DONE


def list_versions(client: Tributary, options: argparse.Namespace, output: Output) -> int:
    """List the versions of the service."""
    found = list(client.model_versions.list())
    lines = []
    for version in found:
        index = version.get("index")
        served = f"index {index['id']} ({index['state']})" if index else "no index"
        lines.append(f"{version['name']:<30} {version['state']:<12} {version.get('purpose') or '':<18} {served}")
    output.result({"model_versions": found}, *(lines or ["The service has no model version."]))
    return DONE


def retire(client: Tributary, options: argparse.Namespace, output: Output) -> int:
    """Retire a version."""
    version = client.model_versions.retire(options.name)
    output.result(version, f"{version['name']} is {version['state']}: no new generation of it is taken.")
    return DONE


def supersede(client: Tributary, options: argparse.Namespace, output: Output) -> int:
    """Retire a version in favour of another."""
    version = client.model_versions.supersede(options.name, by=options.by)
    output.result(version, f"{version['name']} is {version['state']}; {options.by} runs in its place.")
    return DONE


def check_manifest(client: Tributary, options: argparse.Namespace, output: Output) -> int:
    """Check a manifest without storing it."""
    checked = client.manifests.check(options.name, options.file, on_progress=output.progress)
    lines = [f"{checked['items']:,} items of {checked['works']:,} works."]
    lines += [refused_line(refused) for refused in checked["refused"]]
    is_accepted = checked["would_be_accepted"]
    lines.append("It would be accepted." if is_accepted else f"{len(checked['refused'])} works would be refused.")
    output.result(checked, *lines)
    return DONE if is_accepted else REFUSED


def push_manifest(client: Tributary, options: argparse.Namespace, output: Output) -> int:
    """Store a manifest."""
    stored = client.manifests.push(options.name, options.file, on_progress=output.progress)
    output.result(stored, _stored(stored))
    return DONE


def _stored(manifest: dict[str, Any]) -> str:
    return f"Stored {manifest['items']:,} items of {manifest['works']:,} works, digest {manifest['sha256']}."


def config_of(text: str | None) -> dict[str, Any] | None:
    """Read --config: JSON, or the name of a file of JSON."""
    if text is None:
        return None
    try:
        source = text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8")
        config = json.loads(source)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"it is neither JSON nor a file of JSON: {error}", field="--config") from None
    if not isinstance(config, dict):
        raise InvalidInput("an object is needed", field="--config")
    return config
