"""Metalinks: both published forms, and what is refused."""

import pytest
from metalink_example import CONTENT, MD5, SHA256, metalink

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
