"""Weights by name, through the hub's real client, from a server on this machine; nothing here asks the internet."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path

import fake_hub
import pytest
from fake_hub import FakeHub

from vitreous.errors import DamagedFile, NoSpace, Unreachable, UsageError, VitreousError
from vitreous.store.files import sha256_file
from vitreous.weights import hub as client

NAME = "timm/some_model.some_tag"
DATA = bytes(range(256)) * 4000  # a megabyte


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    import huggingface_hub
    from huggingface_hub import file_download

    # the client waits a second before each of its new tries
    monkeypatch.setattr(file_download, "time", types.SimpleNamespace(sleep=lambda seconds: None, time=time.time))
    with fake_hub.serving() as hub:
        fake_hub.point_client(monkeypatch, hub.endpoint, tmp_path / "home")
        yield hub
        huggingface_hub.close_session()


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def refused(kind: type[VitreousError], *words: str) -> str:
    with pytest.raises(kind) as caught:
        client.fetch(NAME)
    said = str(caught.value)
    assert type(caught.value) is kind and "\n" not in said
    for word in words:
        assert word in said
    return said


def test_a_file_is_fetched_once_and_kept(hub: FakeHub, tmp_path: Path) -> None:
    hub.add(NAME, DATA)
    assert client.cached(NAME) is None and hub.asked == []
    first = client.fetch(NAME)
    assert first.path.read_bytes() == DATA and first.sha256 == sha256_file(first.path)
    assert first.path.is_relative_to(tmp_path / "home" / "hub")
    assert client.fetch(NAME) == first
    assert hub.transfers() == [None]
    asked = len(hub.asked)
    assert client.cached(NAME) == first and len(hub.asked) == asked
    first.path.resolve().write_bytes(DATA[:-1])
    assert client.cached(NAME) is None, "a damaged file is not there"


def test_without_a_network_the_cache_answers(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.add(NAME, DATA)
    first = client.fetch(NAME)
    fake_hub.point_client(monkeypatch, "http://127.0.0.1:9", tmp_path / "home")  # nobody listens there
    assert client.fetch(NAME) == first
    offline(monkeypatch)
    before = len(hub.asked)
    assert client.fetch(NAME) == first
    assert len(hub.asked) == before


@pytest.mark.parametrize("endpoint", ["http://[::1", "http://host:port", "nonsense", "ftp://x", ""])
def test_an_endpoint_that_is_no_address(endpoint: str, tmp_path: Path) -> None:
    """In a process of its own: the client's own modules fall over such an address when they are first used."""
    asked = f"assert hub.known({NAME!r}) is None and hub.cached({NAME!r}) is None"  # neither needs an address
    code = f"from vitreous.weights import hub; {asked}; hub.fetch({NAME!r})"
    home = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **home}, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1].startswith(
        f"vitreous.errors.UsageError: HF_ENDPOINT {endpoint!r} is no address of a hub"
    )


def test_nothing_in_the_cache_and_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    way = (f"{NAME}/resolve/main/model.safetensors on another machine", "--weights FILE", "weights=FILE")
    fake_hub.point_client(monkeypatch, "http://127.0.0.1:9", tmp_path / "home")
    began = time.monotonic()
    refused(Unreachable, NAME, f"{tmp_path / 'home' / 'hub'} and http://127.0.0.1:9 cannot be reached", *way)
    assert time.monotonic() - began < 5
    offline(monkeypatch)
    refused(Unreachable, NAME, "HF_HUB_OFFLINE", str(tmp_path / "home" / "hub"), *way)


def test_a_transfer_that_is_cut_goes_on_where_it_stopped(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)
    hub.add(NAME, DATA, cuts=[300_000, 200_000])
    assert client.fetch(NAME).path.read_bytes() == DATA
    assert hub.transfers() == [None, "bytes=300000-", "bytes=500000-"]


def test_a_transfer_that_never_gets_on_is_given_up(hub: FakeHub, tmp_path: Path) -> None:
    repository = hub.add(NAME, DATA, cuts=[1000] + [0] * 20)
    refused(Unreachable, "broke off", "run this again")
    assert not [p for p in (tmp_path / "home").rglob("*") if p.is_file() and p.stat().st_size >= 1000]
    repository.cuts.clear()
    assert client.fetch(NAME).path.read_bytes() == DATA


def test_a_damaged_cache_is_noticed_and_mended(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.add(NAME, DATA)
    path = client.fetch(NAME).path
    for damaged in (DATA[:-1], b"\xff" + DATA[1:]):
        path.resolve().write_bytes(damaged)
        with caplog.at_level(logging.WARNING):
            assert client.fetch(NAME).path.read_bytes() == DATA
        assert str(path) in caplog.text and "fetched again" in caplog.text


def test_a_damaged_cache_without_a_network_is_refused(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, DATA)
    path = client.fetch(NAME).path
    path.resolve().write_bytes(DATA[:-1])
    offline(monkeypatch)
    refused(DamagedFile, str(path), "delete it and run this again with a network")


def test_a_hub_that_sends_something_else_is_refused(hub: FakeHub) -> None:
    hub.add(NAME, DATA, sent=b"\xff" + DATA[1:])
    refused(DamagedFile, "is not what the hub says", NAME)
    assert len(hub.transfers()) == 2


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (404, "RepoNotFound", UsageError, ("There is no public", "check the name")),
        (401, "", UsageError, ("There is no public", "HF_TOKEN")),
        (401, "RepoNotFound", UsageError, ("There is no public", "HF_TOKEN")),
        (404, "EntryNotFound", UsageError, ("holds no model.safetensors", "--weights FILE")),
        (403, "GatedRepo", UsageError, ("needs leave", "HF_TOKEN")),
        (403, "", UsageError, ("needs leave", "HF_TOKEN")),
        (500, "", Unreachable, ("answered 500", "try later", "--weights FILE")),
        (503, "", Unreachable, ("answered 503",)),
        (429, "", Unreachable, ("answered 429",)),
    ],
)
def test_every_answer_has_its_sentence(
    hub: FakeHub, status: int, code: str, kind: type[VitreousError], words: tuple[str, ...]
) -> None:
    repository = hub.add(NAME, DATA, status=status, code=code)
    refused(kind, NAME, *words)
    repository.status = 200
    first = client.fetch(NAME)
    repository.status = status
    assert client.fetch(NAME) == first  # what is here already needs no answer


def test_a_server_that_is_no_hub(hub: FakeHub) -> None:
    hub.add(NAME, DATA, etag=False)
    refused(UsageError, hub.endpoint, "check HF_ENDPOINT")


def test_a_full_disk(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, DATA)
    monkeypatch.setattr(client, "free_bytes", lambda folder: len(DATA) - 1)
    refused(NoSpace, f"{len(DATA):,} bytes are needed")
    assert hub.transfers() == []


def test_a_cache_that_may_not_be_written(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.add(NAME, DATA)
    (tmp_path / "home").mkdir()

    def no(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "home" / "hub"))

    monkeypatch.setattr(os, "makedirs", no)  # root may write anywhere
    refused(UsageError, str(tmp_path / "home" / "hub"), "set HF_HOME")


def test_several_at_once_agree(hub: FakeHub) -> None:
    hub.add(NAME, DATA)
    found: list[client.Fetched] = []
    threads = [threading.Thread(target=lambda: found.append(client.fetch(NAME))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and len(set(found)) == 1
    assert found[0].path.read_bytes() == DATA and hub.transfers() == [None]


def test_the_environment_of_the_client_is_honoured(hub: FakeHub, tmp_path: Path) -> None:
    hub.add(NAME, DATA)
    code = f"from vitreous.weights.hub import fetch; print(fetch({NAME!r}).path)"
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "elsewhere")}
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment | more, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        path = Path(done.stdout.strip())
        assert path.read_bytes() == DATA and path.is_relative_to(tmp_path / "elsewhere" / "hub")
    assert hub.transfers() == [None]
