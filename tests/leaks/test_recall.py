"""Recall and precision of the detectors on documents with known contents (DLP-1 to -5, -7); ZEGEL_TEST_MANY=1: 5,000 of them."""

from __future__ import annotations

import os
import sys
from collections import Counter

import pytest

from relay.mail.documents.budget import Budget
from relay.mail.leaks.inspect import inspect
from relay.pdf import find_pdf_reader
from tests.harness.many import MANY
from tests.leaks.documents import SCORED, documents

SEED = int(os.environ.get("ZEGEL_TEST_SEED", "20261122"))
COUNT = 5_000 if MANY else 1_000
WANTED = 0.99


def test_recall_and_precision(capsys: pytest.CaptureFixture[str]) -> None:
    """Each detector finds at least 99 in 100 of what it should, and of what it finds at least 99 in 100 are right."""
    reader = find_pdf_reader()
    if reader is None:
        pytest.skip("pdftotext is not installed; apt-get install poppler-utils")
    right, missed, wrong = Counter[str](), Counter[str](), Counter[str]()
    where = Counter[str]()
    for document in documents(COUNT, SEED):
        said = inspect(document.content, document.content_type, document.filename, budget=Budget(pdf=reader)).counts
        for detector in SCORED:
            expected, found = detector in document.truth, detector in said
            right[detector] += expected and found
            missed[detector] += expected and not found
            wrong[detector] += found and not expected
            if expected != found:
                suffix = document.filename.rpartition(".")[2] or document.content_type.partition(";")[0]
                where[f"{detector} {'missed' if expected else 'wrong'}: {document.scene} in {suffix}"] += 1
    recall = {name: right[name] / (right[name] + missed[name]) for name in SCORED}
    precision = {name: right[name] / max(1, right[name] + wrong[name]) for name in SCORED}
    figures = (
        f"\n{name}: {right[name] + missed[name]} hold it, recall {recall[name]:.4f}, precision {precision[name]:.4f}"
        for name in SCORED
    )
    with capsys.disabled():
        sys.stdout.writelines((*figures, "\n"))
    assert not [name for name in SCORED if min(recall[name], precision[name]) < WANTED], where.most_common(40)
