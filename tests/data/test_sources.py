"""Downloads against a local server: whole, cut, resumed, corrupted, moved, absent."""

import hashlib
import http.server
import json
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field

import pytest
from metalink_example import CONTENT, MD5, SHA256, metalink

from lcframework.data import download
from lcframework.data.sources import SOURCES, Source, fetch
from lcframework.errors import DownloadError


@dataclass
class Behaviour:
    """What the server does; `cuts` are the numbers of bytes after which answers break off."""

    files: dict = field(default_factory=lambda: {"/proteins.gz": CONTENT})
    ranges: bool = True
    etag: str = '"one"'
    cuts: list = field(default_factory=list)
    statuses: list = field(default_factory=list)
    redirect: str = ""
    requests: list = field(default_factory=list)
    url: str = ""


def make_handler(behaviour):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            behaviour.requests.append((self.path, wanted, self.headers.get("If-Range")))
            if behaviour.redirect:
                self.answer(302, b"", {"Location": behaviour.redirect})
            elif behaviour.statuses:
                self.answer(behaviour.statuses.pop(0), b"", {})
            elif self.path not in behaviour.files:
                self.answer(404, b"", {})
            else:
                self.send_file(behaviour.files[self.path], wanted)

        def send_file(self, content, wanted):
            headers = {"ETag": behaviour.etag} if behaviour.etag else {}
            same = self.headers.get("If-Range", behaviour.etag) == behaviour.etag
            if not (wanted and behaviour.ranges and same):
                return self.answer(200, content, headers)
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return self.answer(206, content[start:], headers | {"Content-Range": span})

        def answer(self, status, body, headers):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.path == "/proteins.gz" and body and behaviour.cuts:
                body = body[: behaviour.cuts.pop(0)]
                self.close_connection = True
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


class QuietServer(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # a client that hangs up on a wrong size is what a test wants


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "backoff_seconds", lambda attempt: 0.0)
    behaviour = Behaviour()
    with QuietServer(("127.0.0.1", 0), make_handler(behaviour)) as httpd:
        behaviour.url = f"http://127.0.0.1:{httpd.server_port}"
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield behaviour
        httpd.shutdown()
        thread.join()


def source(server, **changes):
    given = {"name": "p", "url": f"{server.url}/proteins.gz", "licence": "", "description": ""}
    return Source(**given | (changes or {"sha256": SHA256, "size": len(CONTENT)}))


def names(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_whole_download(server, tmp_path, size):
    path = fetch(source(server, sha256=SHA256, size=size), tmp_path / "new", progress=False)
    assert path == tmp_path / "new" / "proteins.gz"
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["proteins.gz"]
    assert server.requests == [("/proteins.gz", None, None)]


def test_progress_bar_goes_to_stderr(server, tmp_path, capsys):
    fetch(source(server), tmp_path)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "verifying proteins.gz" in captured.err


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_cut_connection_is_resumed(server, tmp_path, size):
    server.cuts = [1_000_000, 500_000]
    path = fetch(source(server, sha256=SHA256, size=size), tmp_path, progress=False)
    assert path.read_bytes() == CONTENT
    assert server.requests == [
        ("/proteins.gz", None, None),
        ("/proteins.gz", "bytes=1000000-", '"one"'),
        ("/proteins.gz", "bytes=1500000-", '"one"'),
    ]


def interrupted(server, folder, **changes):
    """A first run that gives up after a million bytes."""
    server.cuts = [1_000_000]
    original = download.ATTEMPTS
    download.ATTEMPTS = 1
    try:
        with pytest.raises(DownloadError):
            fetch(source(server, **changes), folder, progress=False)
    finally:
        download.ATTEMPTS = original
    assert names(folder) == ["proteins.gz.part", "proteins.gz.part.json"]
    assert (folder / "proteins.gz.part").stat().st_size == 1_000_000
    server.requests.clear()


def test_a_later_run_resumes(server, tmp_path):
    interrupted(server, tmp_path)
    path = fetch(source(server), tmp_path, progress=False)
    assert path.read_bytes() == CONTENT
    assert server.requests == [("/proteins.gz", "bytes=1000000-", '"one"')]
    assert names(tmp_path) == ["proteins.gz"]


@pytest.mark.parametrize("what", ["no ranges", "new etag", "other version", "no note"])
def test_starts_anew_where_the_rest_may_not_fit(server, tmp_path, what):
    interrupted(server, tmp_path)
    wanted = source(server)
    part = tmp_path / "proteins.gz.part"
    part.write_bytes(b"x" * 1_000_000)  # would be noticed if it stayed
    if what == "no ranges":
        server.ranges = False
    elif what == "new etag":
        server.etag = '"two"'
    elif what == "no note":
        (tmp_path / "proteins.gz.part.json").unlink()
    else:
        wanted = source(server, md5=MD5, size=len(CONTENT))
    path = fetch(wanted, tmp_path, progress=False)
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["proteins.gz"]


def test_endless_cuts_without_ranges_end(server, tmp_path):
    server.ranges = False
    server.cuts = [2_000_000, 1_000_000] * 20
    with pytest.raises(DownloadError, match="could not be fetched"):
        fetch(source(server), tmp_path, progress=False)
    assert len(server.requests) <= 2 * download.ATTEMPTS


def test_weak_etag_is_not_sent_back(server, tmp_path):
    server.etag = 'W/"one"'
    server.cuts = [1_000_000]
    assert fetch(source(server), tmp_path, progress=False).read_bytes() == CONTENT
    assert server.requests[1] == ("/proteins.gz", "bytes=1000000-", None)


def test_complete_part_of_unknown_size_is_only_verified(server, tmp_path):
    changes = {"sha256": SHA256}
    interrupted(server, tmp_path, **changes)
    (tmp_path / "proteins.gz.part").write_bytes(CONTENT)
    path = fetch(source(server, **changes), tmp_path, progress=False)
    assert path.read_bytes() == CONTENT
    assert server.requests == [("/proteins.gz", f"bytes={len(CONTENT)}-", '"one"')]


def test_part_longer_than_the_file_starts_anew(server, tmp_path):
    interrupted(server, tmp_path)
    (tmp_path / "proteins.gz.part").write_bytes(CONTENT + b"more")
    assert fetch(source(server), tmp_path, progress=False).read_bytes() == CONTENT


def test_corrupted_content_is_refused_and_deleted(server, tmp_path):
    damaged = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    server.files = {"/proteins.gz": damaged}
    with pytest.raises(DownloadError, match=hashlib.sha256(damaged).hexdigest()) as caught:
        fetch(source(server), tmp_path, progress=False)
    assert SHA256 in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_wrong_size_is_refused_before_the_transfer(server, tmp_path):
    with pytest.raises(DownloadError, match=r"3,000,017 bytes where 3,000,016"):
        fetch(source(server, sha256=SHA256, size=len(CONTENT) - 1), tmp_path, progress=False)
    assert names(tmp_path) == []


def test_checksum_from_a_metalink_is_kept_as_record(server, tmp_path):
    server.files["/RELEASE.metalink"] = metalink()
    wanted = source(server, metalink=f"{server.url}/RELEASE.metalink")
    path = fetch(wanted, tmp_path, progress=False)
    assert path.read_bytes() == CONTENT
    assert (tmp_path / "proteins.gz.metalink").read_bytes() == metalink()
    # The next release changes the address's checksum; the file is still what it was.
    server.files["/RELEASE.metalink"] = metalink(md5="1" * 32)
    server.requests.clear()
    assert fetch(wanted, tmp_path, progress=False) == path
    assert server.requests == []


def test_checksum_from_a_git_lfs_pointer(server, tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
    server.files["/raw/proteins.gz"] = pointer.format(SHA256, len(CONTENT)).encode()
    wanted = source(server, metalink=f"{server.url}/raw/proteins.gz")
    assert fetch(wanted, tmp_path, progress=False).read_bytes() == CONTENT
    server.files["/raw/proteins.gz"] = pointer.format("1" * 64, len(CONTENT)).encode()
    with pytest.raises(DownloadError, match="the sha256"):
        fetch(wanted, tmp_path / "other", progress=False)
    assert not (tmp_path / "other" / "proteins.gz").exists()


def git_listing(content=CONTENT, **changes):
    """A folder as GitHub's API lists it, with what `git hash-object` says of the content."""
    sha = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry = {"name": "proteins.gz", "type": "file", "size": len(content), "sha": sha} | changes
    return json.dumps(
        [{"name": "other", "type": "dir", "size": 0, "sha": "0" * 40}, entry]
    ).encode()


def test_checksum_from_a_git_listing(server, tmp_path):
    server.files["/listing"] = git_listing()
    wanted = source(server, metalink=f"{server.url}/listing?ref=main")
    server.files["/listing?ref=main"] = git_listing()
    assert fetch(wanted, tmp_path, progress=False).read_bytes() == CONTENT
    server.requests.clear()
    assert fetch(wanted, tmp_path, progress=False) and server.requests == []
    for listing, message in [
        (git_listing(sha="1" * 40), "the git blob 1111"),
        (git_listing(size=17), "17"),
        (git_listing(name="else.gz"), "lists 2 files but not proteins.gz"),
        (git_listing(sha="zz"), "no listing of a folder"),
        (b'{"message": "API rate limit exceeded"}', "rate limit exceeded.*try again in an hour"),
    ]:
        server.files["/listing?ref=main"] = listing
        with pytest.raises(DownloadError, match=message):
            fetch(wanted, tmp_path / "other", progress=False)
        assert not (tmp_path / "other" / "proteins.gz").exists()


def test_git_names_contents_so():
    """The empty file's name is known to every user of git."""
    from lcframework.data.git_listing import git_blob

    assert git_blob(0).hexdigest() == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


@pytest.mark.parametrize(
    "name", ["qasper", "qasper-test", "quality-train", "quality-dev", "nq-oracle", "nq-30"]
)
def test_question_answering_sets_are_official_and_fetched_by_name(
    name, server, tmp_path, monkeypatch
):
    from lcframework.cli.main import main

    declared = SOURCES[name]
    hosts = ("https://qasper-dataset.s3.us-west-2.amazonaws.com/",
             "https://raw.githubusercontent.com/nyu-mll/quality/main/data/v1.0.1/",
             "https://raw.githubusercontent.com/nelson-liu/lost-in-the-middle/29b8a6d")  # fmt: skip
    assert declared.url.startswith(hosts) and declared.licence and declared.name == name
    where = f"/{declared.file_name}"
    server.files = {where: CONTENT, "/listing": git_listing(name=declared.file_name)}
    verified = {"sha256": SHA256}
    if declared.metalink:
        assert declared.metalink.startswith("https://api.github.com/repos/")
        folder = declared.url.split("/", 6)[-1].rsplit("/", 1)[0]
        assert f"/contents/{folder}?ref=" in declared.metalink
        verified = {"metalink": f"{server.url}/listing"}
    monkeypatch.setitem(
        SOURCES, name, source(server, url=server.url + where, name=name, **verified)
    )
    main(["data", "get", name, "--to", str(tmp_path)])
    assert (tmp_path / declared.file_name).read_bytes() == CONTENT


def test_wrong_checksum_in_a_metalink(server, tmp_path):
    server.files["/RELEASE.metalink"] = metalink(md5="1" * 32)
    with pytest.raises(DownloadError, match=r"release 2026_02"):
        fetch(source(server, metalink=f"{server.url}/RELEASE.metalink"), tmp_path, progress=False)
    assert names(tmp_path) == []


def test_existing_file_is_verified_and_never_overwritten(server, tmp_path):
    path = tmp_path / "proteins.gz"
    path.write_bytes(CONTENT)
    assert fetch(source(server), tmp_path, progress=False) == path
    for content in (b"mine", CONTENT[:-1] + b"\0"):
        path.write_bytes(content)
        with pytest.raises(DownloadError, match="left as it is"):
            fetch(source(server), tmp_path, progress=False)
        assert path.read_bytes() == content
    assert server.requests == []


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("by_metalink", [False, True])
def test_offline_names_address_and_cure(server, tmp_path, by_metalink):
    address = f"http://127.0.0.1:{closed_port()}"
    changes = {"url": f"{address}/proteins.gz", "sha256": SHA256}
    if by_metalink:
        changes = {"url": changes["url"], "metalink": f"{address}/RELEASE.metalink"}
    wanted = source(server, **changes)
    with pytest.raises(DownloadError) as caught:
        fetch(wanted, tmp_path, progress=False)
    message = str(caught.value)
    assert f"{address}/proteins.gz" in message
    assert str(tmp_path / "proteins.gz") in message
    assert "\n" not in message
    assert names(tmp_path) == []
    # the cure, as the message says it
    (tmp_path / "proteins.gz").write_bytes(CONTENT)
    if by_metalink:
        assert str(tmp_path / "proteins.gz.metalink") in message
        (tmp_path / "proteins.gz.metalink").write_bytes(metalink())
    assert fetch(wanted, tmp_path, progress=False).read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (503, download.ATTEMPTS)])
def test_errors_of_the_server(server, tmp_path, status, tries):
    server.statuses = [status] * 20
    with pytest.raises(DownloadError, match=str(status)):
        fetch(source(server), tmp_path, progress=False)
    assert len(server.requests) == tries
    assert names(tmp_path) == []


def test_passing_errors_are_retried(server, tmp_path):
    server.statuses = [503, 500, 429]
    assert fetch(source(server), tmp_path, progress=False).read_bytes() == CONTENT


def test_waiting_is_bounded():
    waits = [download.backoff_seconds(attempt) for attempt in range(10)]
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(waits) == 30.0


@pytest.mark.parametrize("to", ["file:///etc/hostname", "ftp://elsewhere.example/x"])
def test_redirects_out_of_http_are_refused(server, tmp_path, to):
    server.redirect = to
    with pytest.raises(DownloadError, match="redirect"):
        fetch(source(server), tmp_path, progress=False)
    assert names(tmp_path) == []


def test_full_disk_is_noticed_before_and_during(server, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1_000_000})
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda folder: usage)
        with pytest.raises(DownloadError, match=r"0\.00 GB free"):
            fetch(source(server), tmp_path, progress=False)
    assert server.requests == []
    script = (
        "import resource, sys; from pathlib import Path;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1500000, 1500000));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from lcframework.data.sources import Source, fetch;"
        "s = Source('p', sys.argv[1], '', '', sha256=sys.argv[2]);"
        "from lcframework.errors import DownloadError\n"
        "try: fetch(s, Path(sys.argv[3]), progress=False)\n"
        "except DownloadError as error: print(error)\n"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, f"{server.url}/proteins.gz", SHA256, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "could not be written" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"
    assert names(tmp_path) == ["proteins.gz.part", "proteins.gz.part.json"]
    assert fetch(source(server), tmp_path, progress=False).read_bytes() == CONTENT


def test_file_addresses(tmp_path, server):
    (tmp_path / "proteins.gz").write_bytes(CONTENT)
    here = (tmp_path / "proteins.gz").as_uri()
    path = fetch(source(server, url=here, sha256=SHA256), tmp_path / "to", progress=False)
    assert path.read_bytes() == CONTENT
    missing = source(server, url=f"{here}.none", sha256=SHA256)
    with pytest.raises(DownloadError, match=r"gz\.none"):
        fetch(missing, tmp_path / "to", progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": "ftp://x.example/a", "sha256": SHA256}, "must begin with"),
        ({"url": "https://x.example/", "sha256": SHA256}, "names no file"),
        ({"url": "https://x.example/a"}, "exactly one"),
        ({"url": "https://x.example/a", "md5": MD5}, "size"),
        ({"url": "https://x.example/a", "metalink": "gopher://x.example/m"}, "must begin with"),
    ],
)
def test_declarations_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        Source(name="s", licence="", description="", **changes)


def test_uniref50_is_the_official_release_over_https():
    uniref = SOURCES["uniref50"]
    assert uniref.file_name == "uniref50.fasta.gz"
    for url in (uniref.url, uniref.metalink):
        assert url.startswith("https://ftp.uniprot.org/pub/databases/uniprot/uniref/uniref50/")


def test_lcf_data_get_uniref50_resumes_by_the_same_command(server, tmp_path, monkeypatch, capsys):
    from lcframework.cli.main import main

    server.files["/RELEASE.metalink"] = metalink()
    declared = source(server, name="uniref50", metalink=f"{server.url}/RELEASE.metalink")
    monkeypatch.setitem(SOURCES, "uniref50", declared)
    command = ["data", "get", "uniref50", "--to", str(tmp_path)]
    server.cuts = [1_000_000]
    with monkeypatch.context() as once:
        once.setattr(download, "ATTEMPTS", 1)
        with pytest.raises(SystemExit) as stopped:
            main(command)
    assert stopped.value.code
    assert "the same command" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "proteins.gz").exists()
    main(command)
    assert (tmp_path / "proteins.gz").read_bytes() == CONTENT
    assert ("/proteins.gz", "bytes=1000000-", '"one"') in server.requests
    main(command)  # what is there is verified, not fetched again
    assert names(tmp_path) == ["proteins.gz", "proteins.gz.metalink"]
