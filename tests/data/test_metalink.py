"""Metalinks: both published forms, and what is refused."""

import pytest
from metalink_example import CONTENT, MD5, SHA256, metalink

from lcframework.data.lfs_pointer import parse_published
from lcframework.data.metalink import Expected, parse_metalink
from lcframework.errors import DownloadError


def test_metalink_forms():
    expected = parse_metalink(metalink(), "proteins.gz", "here")
    assert expected == Expected("md5", MD5, len(CONTENT), "2026_02")
    four = f"""<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="proteins.gz">
      <hash type="md5">{MD5}</hash><hash type="sha-256">{SHA256.upper()}</hash></file></metalink>"""
    assert parse_metalink(four.encode(), "proteins.gz", "here") == Expected("sha256", SHA256, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html><body>Please log in", "no metalink"),
        (b"", "no metalink"),
        (metalink().replace(b"proteins.gz", b"others.gz"), "not proteins"),
        (metalink(md5="abc"), "'abc'"),
        (metalink().replace(b'"md5"', b'"sha1"'), "neither"),
        (b'<!DOCTYPE m [<!ENTITY a "aa">]>' + metalink(), "entities"),
        (metalink() + b" " * 1_000_000, "larger than"),
    ],
)
def test_bad_metalinks(content, message):
    with pytest.raises(DownloadError, match=message):
        parse_metalink(content, "proteins.gz", "here")


def test_a_git_lfs_pointer_says_size_and_checksum():
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12\n"
    found = parse_published(pointer.encode(), "data.zip", "here")
    assert (found.algorithm, found.digest, found.size) == ("sha256", "a" * 64, 12)
    for bad in (pointer.replace("size 12", "size x"), pointer.replace("a" * 64, "b" * 63)):
        with pytest.raises(DownloadError, match="here is no Git LFS pointer"):
            parse_published(bad.encode(), "data.zip", "here")
    with pytest.raises(DownloadError, match="no metalink"):
        parse_published(b"<html", "data.zip", "here")
