"""The command: what it prints, where, and with which exit status."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import proxy.server.process
from proxy import __version__, cli
from proxy.config import Config

ROOT = Path(__file__).parent.parent
ORIGIN = "origins: {legacy: {url: 'http://legacy:8000'}}\n"
FREE = "admin: {listen: null}\nserver: {listen: '127.0.0.1:0'}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "spool"))
    yield tmp_path
    assert not (tmp_path / "spool").exists()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configs that `serve` would have run."""
    configs: list[Config] = []

    def run_service(config: Config) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr(proxy.server.process, "run", run_service)
    return configs


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.cli, arguments, prog_name="range-adapter")


def test_help_and_version() -> None:
    assert run("--version").output == f"range-adapter {__version__}\n"
    text = run("--help").output
    for command in ("serve", "demo", "check", "explain", "status", "purge", "spool", "schema"):
        assert command in text
        assert run(command, "-h").exit_code == 0


def test_serve_reads_config_yaml(folder: Path, served: list[Config]) -> None:
    (folder / "config.yaml").write_text(ORIGIN + FREE)
    assert run("serve").exit_code == 0
    assert served[0].origins["legacy"].url.host == "legacy"


def test_serve_without_a_file(folder: Path, served: list[Config]) -> None:
    (folder / "config.yaml").write_text("not this one")
    flags = ("--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--admin", "127.0.0.1:0", "--spool", "s")
    assert run("serve", "--origin", "http://a:1/b", *flags).exit_code == 0
    [settings] = served
    assert str(settings.origins["origin"].url) == "http://a:1/b"
    assert list(map(str, settings.server.listen)) == ["127.0.0.1:0", "[::1]:0"]
    assert str(settings.admin.listen) == "127.0.0.1:0"
    assert settings.spool.path == str(folder / "s")


def test_flags_win_over_the_file(folder: Path, served: list[Config]) -> None:
    (folder / "other.yaml").write_text(ORIGIN + FREE)
    assert run("serve", "other.yaml", "--origin", "http://b", "--listen", "127.0.0.2:0").exit_code == 0
    assert (served[0].origins["legacy"].url.host, str(served[0].server.listen[0])) == ("b", "127.0.0.2:0")


def test_without_a_file_the_error_says_what_to_type(folder: Path, served: list[Config]) -> None:
    for command in ("serve", "check"):
        result = run(command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == (
            "config.yaml: there is none in this folder; name a file, or start without one: "
            "range-adapter serve --origin http://127.0.0.1:8000\n"
            f"error: 1 problem{'; nothing was started' if command == 'serve' else ''}\n"
        )
    assert served == []


def test_nothing_is_started_with_a_fault(folder: Path, served: list[Config]) -> None:
    (folder / "c.yaml").write_text(ORIGIN + FREE + "spool: {max_size: 10g}\nlogging: {level: loud}\n")
    for command in ("serve", "check"):
        result = run(command, "c.yaml")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == (
            "c.yaml:4:19 spool.max_size: cannot read '10g' as a size; write 10GiB or 10GB\n"
            "c.yaml:5:18 logging.level: expected 'debug', 'info', 'warning' or 'error', not 'loud'\n"
            f"error: 2 problems{'; nothing was started' if command == 'serve' else ''}\n"
        )
    assert served == []


def test_check(folder: Path) -> None:
    routes = "routes:\n- {name: x, match: {host: h, path_regex: '[.]x$', methods: GET}, mode: deny}\n- {name: rest}\n"
    (folder / "config.yaml").write_text(ORIGIN + FREE + routes)
    result = run("check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "config.yaml: ok\n"
        "listens on 127.0.0.1:0\n"
        "route x  GET h [.]x$  -  deny\n"
        "route rest  everything  http://legacy:8000  adapt\n"
    )


def test_check_looks_at_the_machine(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        text = f"{ORIGIN}server:\n  listen: {address}\nadmin: {{listen: null}}\n"
        (folder / "config.yaml").write_text(text)
        result = run("check")
        advice = "is already in use; stop the other program or choose another port"
        assert result.stderr.splitlines()[0] == f"config.yaml:3:11 server.listen[0]: {address} {advice}"
        assert result.exit_code == 2
        assert run("check", "--no-probe").exit_code == 0


def test_the_example_is_accepted(folder: Path) -> None:
    assert run("check", "--no-probe", str(ROOT / "config.yaml")).exit_code == 0


def test_explain(folder: Path) -> None:
    (folder / "config.yaml").write_text(ORIGIN + "routes: [{name: films, match: {host: h}}, {name: rest}]\n")
    result = run("explain", "GET", "http://h:80/a%20b?")
    assert result.stdout == (
        "route  films  takes the request\n"
        "\n"
        "outcome    adapt\n"
        "origin     legacy\n"
        "asks for   http://legacy:8000/a%20b?\n"
        "with Host  legacy:8000\n"
        "cache key  legacy http://h/a%20b?\n"
        "policy     kept as long as the origin says; media for 1h where it says nothing\n"
        "           up to 100 ranges, 2 of them overlapping\n"
        "           a range waits up to 30s for an object of unknown length\n"
    )
    answer = json.loads(run("explain", "GET", "/a", "config.yaml", "--json", "-H", "Host: h").stdout)
    assert (answer["outcome"], answer["origin_url"]) == ("adapt", "http://legacy:8000/a")
    assert answer["tried"] == [["films", "takes the request"]]
    assert (
        json.loads(run("explain", "GET", "http://h", "--json").stdout)["origin_url"] == "http://legacy:8000/"
    )
    assert (
        json.loads(run("explain", "GET", "http://h?x", "--json").stdout)["origin_url"]
        == "http://legacy:8000/?x"
    )


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        (("POST", "/x.pdf"), "relayed: method"),
        (("GET", "/x.pdf", "-H", "Content-Length: 3"), "relayed: body"),
        (("GET", "/x.pdf", "-H", "Connection: upgrade", "-H", "Upgrade: websocket"), "relayed: upgrade"),
        (
            ("OPTIONS", "/x", "-H", "Origin: http://a", "-H", "Access-Control-Request-Method: GET"),
            "answered here: preflight",
        ),
    ],
)
def test_explain_knows_what_is_not_adapted(folder: Path, arguments: tuple[str, ...], outcome: str) -> None:
    (folder / "config.yaml").write_text(ORIGIN + "defaults: {cors: {allow_origins: '*'}}\n")
    answer = json.loads(run("explain", *arguments, "--json").stdout)
    assert (answer["outcome"], answer["cache_key"], answer["policy"]) == (outcome, None, [])
    assert (answer["origin_url"] is None) == outcome.startswith("answered")


def test_explain_tells_what_becomes_of_an_answer(folder: Path) -> None:
    (folder / "config.yaml").write_text(ORIGIN)
    asked = ("explain", "GET", "/a")
    assert json.loads(run(*asked, "--json").stdout)["answer"] is None
    lines = (
        "-A",
        "Cache-Control: max-age=600",
        "--answer",
        "Cache-Control: must-revalidate",
        "-A",
        'ETag: "x"',
    )
    answer = json.loads(run(*asked, *lines, "--json").stdout)["answer"]
    assert (answer["outcome"], answer["fresh_for"]) == ("stored, for everyone", 600)
    assert answer["validate"] == ["must-revalidate"]
    assert answer["next"][1]["after"] == 600
    text = run(*asked, *lines).stdout
    assert "\n\nanswer     stored, for everyone\nbecause    " in text
    now = int(time.time())  # by the clock, an answer of ten years ago is stale
    old = formatdate(now - 315_360_000, usegmt=True)
    assert json.loads(run(*asked, "--json", *lines, "-A", f"Date: {old}").stdout)["answer"]["fresh_for"] == 0
    text = run(*asked, "--status", "503").stdout
    assert "\nanswer     not stored: status\n" in text
    for wrong in (("--status", "199"), ("--answer", "nothing")):
        result = run(*asked, *wrong)
        assert (result.exit_code, result.stdout) == (2, "")
        assert wrong[0] in result.stderr


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://h:x/a", "Port could not be cast"),
        ("http://h:99999", "range"),
    ],
)
def test_explain_wants_a_host_that_can_be_one(folder: Path, url: str, why: str) -> None:
    (folder / "config.yaml").write_text(ORIGIN)
    result = run("explain", "GET", url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is no host" in result.stderr
    assert why in " ".join(result.stderr.split())


@pytest.mark.parametrize("arguments", [("GET", "h/a"), ("GET", "/a", "-H", "nothing")])
def test_explain_wants_a_request(folder: Path, arguments: tuple[str, ...]) -> None:
    (folder / "config.yaml").write_text(ORIGIN)
    result = run("explain", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "name a URL, --tag TAG or --all"),
        (("--soft",), "name a URL, --tag TAG or --all"),
        (("--all", "/a"), "--all is everything; leave out the rest"),
        (("--all", "--tag", "a"), "--all is everything; leave out the rest"),
        (("/a", "--admin", "9090"), "'9090' names no host"),
        (("/a", "-c", "none.yaml"), "none.yaml: cannot be read"),
    ],
)
def test_purge_wants_to_know_what_and_where(folder: Path, arguments: tuple[str, ...], why: str) -> None:
    result = run("purge", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr


@pytest.mark.parametrize(
    "token",
    ["''", "fifteen-letters", "1234567890123456789", "[a]", "with some spaces in it", "ünïcödé-ünïcödé"],
)
def test_a_token_that_cannot_be_one(folder: Path, token: str) -> None:
    (folder / "config.yaml").write_text(ORIGIN + f"admin: {{listen: null, token: {token}}}\n", "utf-8")
    result = run("check")
    assert result.exit_code == 2
    assert result.stderr.startswith("config.yaml:2:")
    assert token.strip("'[]") not in result.stderr or len(token) < 4
    assert "admin.token: " in result.stderr


def test_schema() -> None:
    assert json.loads(run("schema").stdout)["title"] == "Config"


def test_a_foreign_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise ImportError("no module named proxy.server.app")

    monkeypatch.setattr(cli, "cli", fail)
    monkeypatch.setattr(cli, "packages_distributions", lambda: {"proxy": ["range-adapter", "proxy.py"]})
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    assert capsys.readouterr().err == (
        "error: no module named proxy.server.app: the package `proxy` also belongs to proxy.py in this environment; "
        "install range-adapter into one of its own: pipx install range-adapter\n"
    )
    monkeypatch.setattr(cli, "packages_distributions", dict)
    with pytest.raises(ImportError):
        cli.main()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--version"], 0),
        (["check", "--no-probe", str(ROOT / "config.yaml")], 0),
        (["serve", "/nowhere.yaml"], 2),
        (["serve", "--origin", "legacy"], 2),
        (["serve", "--no-such-flag"], 2),
        (["nothing"], 2),
    ],
)
def test_exit_status_of_the_process(arguments: list[str], status: int) -> None:
    command = [sys.executable, "-m", "proxy", *arguments]
    ended = subprocess.run(command, capture_output=True, cwd=ROOT, env=dict(os.environ), timeout=30)
    assert ended.returncode == status
    assert bool(ended.stderr) is (status != 0)
    assert b"Traceback" not in ended.stderr
    assert b"\x1b[" not in ended.stdout + ended.stderr
