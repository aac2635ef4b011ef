import pytest
import torch
from threadpoolctl import threadpool_info

from brenier.core.work import one_thread, progress_bar


@pytest.mark.parametrize(("show", "terminal", "shown"), [(True, "1", True), (True, "0", False), (False, "1", False)])
def test_a_bar_is_shown_where_it_is_wanted_and_there_is_a_terminal(
    show: bool, terminal: str, shown: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", terminal)
    with progress_bar("counting", show) as advance:
        advance(0.5)
        advance(0.5)
    found = capsys.readouterr()
    assert found.out == ""
    assert ("counting" in found.err) == shown
    if not shown:
        assert found.err == ""


def test_threads_are_put_back_whatever_happens() -> None:
    before = torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]
    torch.set_num_threads(2)
    with pytest.raises(KeyboardInterrupt), one_thread():
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} <= {1}
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before[0])
    assert [pool["num_threads"] for pool in threadpool_info()] == before[1]
