import hashlib
import json
import os
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import InvalidInput, MissingModel, TooLarge
from services.registry.digest import adapter_digest
from tests.services.registry.adapters import CONFIG, write_adapter


def test_the_digest_is_the_one_that_its_docstring_describes(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", seed=7)
    config = rfc8785.dumps(CONFIG)
    weights = (folder / "adapter_model.safetensors").read_bytes()
    described = (
        b"param.v1/adapter\x00"
        + len(config).to_bytes(8, "big") + config
        + len(weights).to_bytes(8, "big") + weights
    )  # fmt: skip
    assert adapter_digest(folder) == hashlib.sha256(described).hexdigest()


def test_white_space_key_order_and_other_files_are_no_part_of_the_identity(tmp_path: Path) -> None:
    one = write_adapter(tmp_path / "one")
    other = write_adapter(tmp_path / "other", config=dict(reversed(CONFIG.items())))
    (other / "adapter_config.json").write_text(json.dumps(dict(reversed(CONFIG.items()))))
    (other / "README.md").write_text("a note")
    assert adapter_digest(one) == adapter_digest(other)


@settings(deadline=None)  # a busy machine is no failure
@given(data=st.data())
def test_any_flipped_bit_of_the_weights_changes_the_digest(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = write_adapter(tmp_path_factory.mktemp("flip") / "a")
    before = adapter_digest(folder)
    path = folder / "adapter_model.safetensors"
    weights = bytearray(path.read_bytes())
    weights[data.draw(st.integers(0, len(weights) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(weights)
    assert adapter_digest(folder) != before


def test_another_setting_is_another_adapter(tmp_path: Path) -> None:
    one = write_adapter(tmp_path / "one")
    other = write_adapter(tmp_path / "other", config={**CONFIG, "lora_alpha": 16})
    assert adapter_digest(one) != adapter_digest(other)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / name).unlink()
    with pytest.raises(MissingModel, match=f"adapter a: expected {name}, found none"):
        adapter_digest(folder)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match="expected a folder"):
        adapter_digest(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_symbolic_link_is_refused_even_to_good_bytes(tmp_path: Path, name: str) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(InvalidInput, match=name):
        adapter_digest(folder)


def test_a_linked_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(write_adapter(tmp_path / "a"))
    with pytest.raises(InvalidInput, match="found a symbolic link"):
        adapter_digest(tmp_path / "link")


def test_a_pipe_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").unlink()
    os.mkfifo(folder / "adapter_model.safetensors")
    with pytest.raises(InvalidInput, match="plain file"):
        adapter_digest(folder)


def test_weights_beyond_the_limit_are_refused_unread(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    with (folder / "adapter_model.safetensors").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(TooLarge, match="found 1099511627776"):
        adapter_digest(folder)


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '{"r": 1, "r": 2}', '{"r": NaN}', '{"r": 123456789012345678901}',
        "[" * 100_000, "\xff",
    ],
    ids=["broken", "a list", "a key twice", "no number", "too large", "too deep", "no UTF-8"],
)  # fmt: skip
def test_a_configuration_without_one_meaning_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / "adapter_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidInput, match="one JSON object"):
        adapter_digest(folder)
