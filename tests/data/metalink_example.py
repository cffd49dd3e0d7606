"""A small download and a metalink as UniProt writes it, shared by the tests of downloads."""

import hashlib

import numpy as np

CONTENT = np.random.default_rng(0).bytes(3_000_017)
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()

METALINK = """<?xml version="1.0" encoding="UTF-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/">
  <version>2026_02</version>
  <files>
    <file name="other.gz"><verification><hash type="md5">{zeros}</hash></verification></file>
    <file name="proteins.gz">
      <size>{size}</size>
      <verification><hash type="md5">{md5}</hash></verification>
      <resources><url type="https">https://elsewhere.example/proteins.gz</url></resources>
    </file>
  </files>
</metalink>"""


def metalink(md5=MD5):
    return METALINK.format(md5=md5, size=len(CONTENT), zeros="0" * 32).encode()
