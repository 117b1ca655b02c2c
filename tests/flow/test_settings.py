"""What a simulation is told: one object that goes through one variable, checked where a user writes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from tb.common import settings
from tb.common.settings import Options, Settings
from tb.flow import failure

TOLD = Settings(
    config=CONFIGS["8x4x"], parameters={"WIDTH": 3}, sim="icarus", result="/r.json", images=2, fault="late"
)


def test_a_simulation_reads_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.VARIABLE, TOLD.to_json())
    assert settings.get() == TOLD
    assert settings.config() == CONFIGS["8x4x"]
    assert (settings.parameters(), settings.simulator(), settings.images()) == ({"WIDTH": 3}, "icarus", 2)
    assert not settings.coverage()


def test_what_is_given_last_wins() -> None:
    both = Options(images=3, flip=True) | Options(images=1, only="a")
    assert both == Options(images=1, flip=True, only="a")
    assert both.given() == {"images": 1, "flip": True, "only": "a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flip", "TATAMI_SETTINGS: is no JSON: "),
        ("[]", "TATAMI_SETTINGS: is []: input should be an object"),
        ('{"flop": true}', "TATAMI_SETTINGS: field 'flop' is unknown; valid: images, network, in_rate"),
        ('{"flip": 1}', "TATAMI_SETTINGS: field 'flip' is 1: input should be a valid boolean"),
        ('{"images": true}', "TATAMI_SETTINGS: field 'images' is True: input should be a valid integer"),
        ('{"images": 0}', "TATAMI_SETTINGS: field 'images' is 0: input should be greater than or equal to 1"),
        ('{"fault": null}', "TATAMI_SETTINGS: field 'fault' is None: input should be a valid string"),
    ],
)
def test_what_a_user_sets_is_checked(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.VARIABLE, text)
    with pytest.raises(TatamiError) as refused:
        settings.from_user()
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_a_failure_of_an_earlier_version_is_told_in_one_line(tmp_path: Path) -> None:
    """It had an `env` of variables where there are `options` now."""
    test = {"name": "digits", "module": "m", "description": "d"}
    record = {"test": test, "sim": "verilator", "config": {"name": "4x2"}, "seed": 1, "env": {"TATAMI": "1"}}
    (tmp_path / failure.RECORD).write_text(json.dumps(record))
    with pytest.raises(TatamiError) as refused:
        failure.load(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path / failure.RECORD}: field 'options' is missing; was it kept by an earlier version?"
    )
