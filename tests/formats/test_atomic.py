import os
from pathlib import Path

import pytest

from formats.atomic import atomic_path, check_target, write_bytes
from formats.errors import OutputError


def test_a_write_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    write_bytes(target, b"old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_bytes(b"ne")
        assert target.read_bytes() == b"old"
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
    write_bytes(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_existing_files_are_kept_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    write_bytes(target, b"old", overwrite=False)
    with pytest.raises(OutputError, match="it exists"):
        write_bytes(target, b"new", overwrite=False)
    assert target.read_bytes() == b"old"


def test_a_file_created_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    with (
        pytest.raises(OutputError, match="cannot write"),
        atomic_path(target, overwrite=False) as temporary,
    ):
        temporary.write_bytes(b"new")
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_disks_without_hard_links_work_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr("os.link", refuse)
    write_bytes(tmp_path / "out", b"new", overwrite=False)
    assert (tmp_path / "out").read_bytes() == b"new"
    with pytest.raises(OutputError, match="it exists"):
        write_bytes(tmp_path / "out", b"newer", overwrite=False)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_name_that_was_reserved_in_vain_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr("os.link", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match="cannot write"):
        write_bytes(tmp_path / "out", b"new", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OutputError, match="cannot write .*a: its links lead in a circle"):
        check_target(tmp_path / "a")


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_impossible_targets_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder .* does not exist"):
        write_bytes(tmp_path / "no" / "out", b"")
    with pytest.raises(OutputError, match="it is a folder"):
        write_bytes(tmp_path, b"")
    with pytest.raises(OutputError, match="regular file"):
        check_target(os.devnull)
    with pytest.raises(OutputError, match="cannot write"):
        write_bytes(tmp_path / ("x" * 300), b"")


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"), atomic_path(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folders_are_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        check_target(tmp_path / "out")
