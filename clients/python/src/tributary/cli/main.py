"""The arguments of `tributary`, and the way from a command to its function."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from tributary.cli import indexes, logins, models, reports, statements, works
from tributary.cli.output import EXIT_CODES, STOPPED, Output
from tributary.cli.reports import Answers
from tributary.client import Tributary
from tributary.errors import TributaryError
from tributary.logins import find_login
from tributary.transport import VERSION

PURPOSES = "a use by the names of a consent, such as train_generative or fine_tune"


def moment(text: str) -> datetime:
    """Read a date and time of RFC 3339 with its offset. Raises ArgumentTypeError."""
    try:
        found = datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time with its offset, as 2026-10-02T17:30:00Z")
    return found


def parser() -> argparse.ArgumentParser:
    """Make the parser of every command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON document, and errors as JSON")
    common.add_argument("--service", metavar="NAME", help="the stored login to use (see `tributary services`)")
    timed = argparse.ArgumentParser(add_help=False)
    timed.add_argument("--timeout", type=float, default=86_400.0, metavar="SECONDS", help="give up after this time")
    top = argparse.ArgumentParser(
        prog="tributary",
        description="Report generations, register models and read receipts of a Tributary installation.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"tributary-client {VERSION}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(parent: Any, name: str, words: str, call: Callable[..., int], *more: Any, **fixed: Any) -> Any:
        made = parent.add_parser(
            name,
            help=words,
            description=words,
            parents=[common, *more],
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(call=call, **fixed)
        return made

    def group(name: str, words: str) -> Any:
        made = commands.add_parser(name, help=words, description=words)
        return made.add_subparsers(dest="action", required=True, metavar="ACTION")

    login = command(commands, "login", "Prove a service key and store it.", logins.login, needs="nothing")
    login.add_argument("url", help="the address of the installation, as https://tributary.example.org")
    login.add_argument("--name", default="default", help="the name of the login, for --service")
    login.add_argument("--key-stdin", action="store_true", help="read the key from the standard input")
    command(commands, "services", "List the stored services and check their keys.", logins.services, needs="nothing")

    versions = group("models", "Model versions of the service.")
    push = command(versions, "push", "Upload a checkpoint and register its model version.", models.push)
    push.add_argument("directory", nargs="?", metavar="DIR", help="the checkpoint; none with --factory pushed")
    push.add_argument("--name", required=True)
    push.add_argument("--adapter", required=True, help="the kind of model, such as causal_lm")
    push.add_argument("--factory", required=True, help="the code that loads it, such as transformers, peft or pushed")
    push.add_argument("--purpose", required=True, help=PURPOSES)
    push.add_argument("--trained-at", required=True, type=moment, metavar="TIME", help="the end of the training")
    push.add_argument("--training-started-at", type=moment, metavar="TIME")
    push.add_argument("--base-model", metavar="NAME")
    push.add_argument("--licence", metavar="NAME")
    push.add_argument("--config", metavar="JSON", help="JSON, or a file of JSON")
    push.add_argument(
        "--also-traced", action="append", choices=("embedding", "norm"), help="layers traced beside the usual ones"
    )
    push.add_argument("--sha256", metavar="HEX", help="a checkpoint that the store has already")
    push.add_argument("--manifest", metavar="FILE", help="JSON lines or Parquet, stored after the registration")
    command(versions, "list", "List the model versions.", models.list_versions)
    retire = command(versions, "retire", "Take no new generations of a version.", models.retire)
    retire.add_argument("name")
    supersede = command(versions, "supersede", "Retire a version in favour of another.", models.supersede)
    supersede.add_argument("name")
    supersede.add_argument("--by", required=True, metavar="NAME")

    manifest = group("manifest", "Training manifests.")
    check = command(manifest, "check", "List every work without consent; store nothing.", models.check_manifest)
    store = command(manifest, "push", "Store the manifest of a model version.", models.push_manifest)
    for made in (check, store):
        made.add_argument("name", help="the model version")
        made.add_argument("file", help="JSON lines or Parquet")

    index = group("index", "Indexes of model versions.")
    build = command(index, "build", "Queue the build of an index.", indexes.build, timed)
    build.add_argument("name", help="the model version")
    build.add_argument("--attributor", help="by default the one of the adapter")
    build.add_argument("--config", metavar="JSON", help="further fields of the configuration: JSON, or a file of JSON")
    build.add_argument("--left-out", action="append", metavar="LAYER", help="a layer that is not traced; repeatable")
    build.add_argument("--wait", action="store_true", help="wait until it is built")
    watch = command(index, "watch", "Wait for an index, with its progress.", indexes.watch, timed)
    watch.add_argument("index", help="the id of the index")
    watch.add_argument("--evaluated", action="store_true", help="wait for the evaluation too")
    evaluate = command(index, "evaluate", "Evaluate an index by retraining, or by a report.", indexes.evaluate, timed)
    evaluate.add_argument("index", help="the id of the index")
    evaluate.add_argument("--report", metavar="FILE", help="the JSON of an evaluation made where the model runs")
    evaluate.add_argument("--wait", action="store_true", help="wait for the result")

    rights = group("works", "Works with consent, and the registration of works for many.")
    pull = command(rights, "pull", "Fetch the works with consent to a use.", works.pull)
    pull.add_argument("folder", help="each work becomes a file named by its id, beside works.jsonl")
    pull.add_argument("--purpose", required=True, help=PURPOSES)
    pull.add_argument("--at", type=moment, metavar="TIME", help="the moment at which consent holds; by default now")
    bring = command(rights, "import", "Register files as works under a mandate.", works.register)
    bring.add_argument("source", help="a folder, or JSON lines with path, title, modality, published_on")
    bring.add_argument("--mandate", required=True, metavar="ID", help="the recorded mandate of your organisation")
    bring.add_argument("--dataset", required=True, metavar="ID", help="a dataset of a contributor of the mandate")
    bring.add_argument("--registered", metavar="FILE", help="keeps the registered works; SOURCE.registered.jsonl")
    for made in (pull, bring):
        made.add_argument("--modality", choices=("text", "image", "audio", "video", "other"))

    report = command(commands, "report", "Report generations from JSON lines.", reports.report, timed, needs="answers")
    report.add_argument("file", help="JSON lines, each a generation as the API takes it; - for the standard input")
    report.add_argument("--model", metavar="NAME", help="the model version of lines that name none")
    report.add_argument("--spool", metavar="FOLDER", help="keep unsent generations there")
    report.add_argument(
        "--ids", metavar="FILE", help="write the id of each stored generation, by which its receipt is read"
    )
    receipt = command(commands, "receipt", "Show the receipt of a generation.", reports.receipt, timed)
    receipt.add_argument("id", nargs="?", help="the id of the generation")
    receipt.add_argument("--external-id", metavar="NAME", help="or the id that the service gave it")
    receipt.add_argument("--wait", action="store_true", help="wait until it is final")

    statement = group("statement", "Royalty statements.")
    verify = command(statement, "verify", "Verify a statement's CSV, offline.", statements.verify, needs="nothing")
    verify.add_argument("file")
    verify.add_argument("--root", default="", metavar="HEX", help="the published root of the month")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = parser().parse_args(arguments)
    output = Output(is_json=options.json)
    try:
        return _run(options, output)
    except (TributaryError, OSError) as error:
        return output.error(error)
    except KeyboardInterrupt:
        output.note("Stopped.")
        return STOPPED


def _run(options: argparse.Namespace, output: Output) -> int:
    needs = getattr(options, "needs", "client")
    if needs == "nothing":
        done: int = options.call(options, output)
        return done
    login = find_login(options.service)
    answers = Answers(ids=getattr(options, "ids", None))
    with (
        answers,
        Tributary(
            login.url,
            login.key,
            spool=getattr(options, "spool", None),
            on_refused=answers.refusals.append,
            on_stored=answers.note_id if answers.ids else None,
        ) as client,
    ):
        if needs == "answers":
            done = options.call(client, options, output, answers.refusals)
        else:
            done = options.call(client, options, output)
        return done


if __name__ == "__main__":
    sys.exit(main())
