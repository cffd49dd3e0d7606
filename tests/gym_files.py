"""Writes small ProteinGym folders."""

import csv
import gzip

TARGET = "MKTAYIAKQR"
HEADER = ["mutant", "mutated_sequence", "DMS_score", "DMS_score_bin"]
ROWS = [
    ("K2A", "MATAYIAKQR", 1.0, 1),
    ("T3C", "MKCAYIAKQR", -0.5, 0),
    ("K2A:R10K", "MATAYIAKQK", 0.25, 1),
    ("Y5F", "MKTAFIAKQR", -2.0, 0),
]


def write(path, rows, header=HEADER, compress=False):
    opener = gzip.open if compress else open
    with opener(path, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def reference_row(name, target=TARGET, uniprot=None, kind="Activity"):
    return (name, f"{name}.csv", uniprot or name.split("_")[0], target, kind)


def reference(folder, rows, name="DMS_substitutions.csv"):
    header = ["DMS_id", "DMS_filename", "UniProt_ID", "target_seq", "coarse_selection_type"]
    return write(folder / name, rows, header)
