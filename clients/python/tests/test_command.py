"""The command line without a server: exit codes, stored logins, bars, offline verification."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest

from tributary.cli.main import main
from tributary.cli.output import Output, bar
from tributary.errors import InvalidInput
from tributary.logins import Login, find_login, note_upload, read_logins, store_login, unfinished_upload
from tributary.manifest_lines import checked
from tributary.progress import Progress

KEY = "trib_abc123_topsecret"


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIBUTARY_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("TRIBUTARY_URL", raising=False)
    monkeypatch.delenv("TRIBUTARY_KEY", raising=False)


def test_logins_are_kept_by_name_for_their_owner_alone() -> None:
    path = store_login("default", Login("https://a.example", KEY))
    store_login("second", Login("https://b.example", KEY + "2"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert find_login(None).url == "https://a.example"
    assert find_login("second").url == "https://b.example"
    assert list(path.parent.iterdir()) == [path]
    assert KEY not in repr(read_logins())
    assert find_login("second").prefix == "trib_abc123"


def test_the_environment_comes_before_the_default_login_and_after_a_name() -> None:
    store_login("default", Login("https://a.example", KEY))
    given = {"TRIBUTARY_URL": "https://c.example", "TRIBUTARY_KEY": KEY}
    assert find_login(None, given).url == "https://c.example"
    assert find_login("default", given).url == "https://a.example"
    with pytest.raises(InvalidInput, match="together or not at all"):
        find_login(None, {"TRIBUTARY_URL": "https://c.example"})


def test_a_missing_login_is_told_with_those_that_are_there() -> None:
    with pytest.raises(InvalidInput, match="stored: none"):
        find_login(None)
    store_login("one", Login("https://a.example", KEY))
    assert find_login(None).url == "https://a.example"
    with pytest.raises(InvalidInput, match="stored: one"):
        find_login("two")
    with pytest.raises(InvalidInput, match="a name has"):
        store_login("../x", Login("https://a.example", KEY))


def test_a_broken_file_of_logins_is_told(tmp_path: Path) -> None:
    path = store_login("one", Login("https://a.example", KEY))
    path.write_text("{")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_logins()
    path.write_text('{"one": {}}')
    with pytest.raises(InvalidInput, match="log in again"):
        read_logins()


def test_unfinished_uploads_are_remembered_until_they_end() -> None:
    note_upload("https://a.example", "ab", "u1")
    assert unfinished_upload("https://a.example", "ab") == "u1"
    assert unfinished_upload("https://b.example", "ab") is None
    note_upload("https://a.example", "ab", None)
    assert unfinished_upload("https://a.example", "ab") is None


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["models"],
        ["models", "push", "dir"],
        [
            "models",
            "push",
            "dir",
            "--name",
            "a",
            "--adapter",
            "b",
            "--factory",
            "c",
            "--purpose",
            "d",
            "--trained-at",
            "x",
        ],
        ["index", "watch"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: tributary" in capsys.readouterr().err


def test_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["statement", "verify", "--help"])
    assert "no answer from the server" in capsys.readouterr().out


def test_no_login_no_file_no_answer_have_their_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["receipt", "x"]) == 2
    assert "tributary login URL" in capsys.readouterr().err
    monkeypatch.setenv("TRIBUTARY_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TRIBUTARY_KEY", KEY)
    assert main(["manifest", "check", "m", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err
    (tmp_path / "empty.jsonl").touch()
    assert main(["manifest", "check", "m", str(tmp_path / "empty.jsonl"), "--json"]) == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert "is empty" in error["detail"]
    assert KEY not in json.dumps(error)


def test_a_file_that_is_no_statement_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "statement.csv"
    path.write_bytes(b"a,b\r\n")
    assert main(["statement", "verify", str(path)]) == 1
    assert capsys.readouterr().out.startswith("NOT VERIFIED: the first line does not name the columns")
    assert main(["statement", "verify", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["proved"] is False
    assert main(["statement", "verify", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("progress", "drawn"),
    [
        (Progress("upload", 0, 4 * 2**20), "upload       [..............................]   0 %  0.0 of 4.0 MiB"),
        (
            Progress("upload", 2 * 2**20, 4 * 2**20),
            "upload       [###############...............]  50 %  2.0 of 4.0 MiB",
        ),
        (Progress("features", 9, 9), "features     [##############################] 100 %  9 of 9"),
        (Progress("report", 1234, 0), "report       1,234"),
    ],
)
def test_a_bar_shows_the_part_that_is_done(progress: Progress, drawn: str) -> None:
    assert bar(progress).rstrip() == drawn


def test_bars_are_drawn_on_a_terminal_alone() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, pipe = Terminal(), io.StringIO()
    for is_json, stream in ((False, terminal), (True, Terminal()), (False, pipe)):
        output = Output(is_json=is_json, out=io.StringIO(), err=stream)
        output.progress(Progress("digest", 1, 1))
        output.progress(Progress("upload", 1, 1))
        output.end_progress()
        assert stream.getvalue().count("\n") == (2 if stream is terminal else 0)
    assert pipe.getvalue() == ""


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ([], ""),
        ({}, ""),
        ({"work": "a", "sha256": "b"}, ""),
        ({"work": 3}, "work"),
        ({"work": ""}, "work"),
        ({"work": "a", "token_begin": 1}, "token_begin"),
        ({"work": "a", "token_start": 1}, "token_start"),
        ({"work": "a", "token_start": 2, "token_end": 2}, "token_end"),
        ({"work": "a", "token_start": True, "token_end": 2}, "token_start"),
        ({"work": "a", "part": -1}, "part"),
        ({"work": "a", "part": 1, "token_start": 0, "token_end": 2}, "part"),
    ],
)
def test_a_line_of_a_manifest_is_refused_with_line_and_field(item: object, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked(item, 17)
    assert (caught.value.line, caught.value.field) == (17, field)
    assert str(caught.value).startswith("line 17: ")
