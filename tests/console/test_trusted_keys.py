"""Which keys `param verify` takes where none are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.cli.evidence import trusted_keys
from services.attestation.keys import Keyring
from services.errors import InvalidInput, VerificationFailed


def test_verifying_makes_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAM_HOME", str(tmp_path))
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    with pytest.raises(InvalidInput, match="--jwks: expected the trusted keys"):
        trusted_keys(None)
    assert list(keys.iterdir()) == []
    # Two purposes may be held by a key service: their keys are not made here either.
    known = Keyring(keys).key("receipt").kid
    assert [key["kid"] for key in trusted_keys(None)["keys"]] == [known]
    assert not (keys / "checkpoint.key.json").exists()


def test_a_key_set_that_can_be_read_in_two_ways_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text('{"keys": [], "keys": []}')
    with pytest.raises(VerificationFailed, match="key set: .*'keys' twice"):
        trusted_keys(str(path))
