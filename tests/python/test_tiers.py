"""The persistent folders of a job, as its start looks at them."""

from __future__ import annotations

import logging
import os
import pathlib
import threading

import pytest

from holdfast import _tiers
from holdfast._tiers import Tier, warn_of_missing


# A mount whose server is gone holds whoever looks at it, for ever.
def test_a_folder_that_does_not_answer_holds_no_start_up_and_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    back = threading.Event()
    real = os.path.isdir

    def look(path: str) -> bool:
        if "dead" in os.fspath(path):
            back.wait()
        return real(path)

    monkeypatch.setattr(_tiers, "LOOK_SECONDS", 2.0)
    monkeypatch.setattr(os.path, "isdir", look)
    tiers = [Tier("/dead/a"), Tier(tmp_path), Tier("/dead/b"), Tier(tmp_path / "typing-error")]
    with caplog.at_level(logging.WARNING, "holdfast"):
        warn_of_missing(tiers)
    back.set()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3, told
    assert "/dead/a did not answer within 2 s" in told[0]
    assert "/dead/b did not answer within 2 s" in told[1]
    assert f"{tmp_path / 'typing-error'} does not exist" in told[2]
