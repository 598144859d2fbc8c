"""The mesh: sizes, slices, and what has no form."""

import dataclasses

import jax
import pytest

from stgrpo.errors import UserError
from stgrpo.models.sharding import make_mesh


@dataclasses.dataclass(frozen=True)
class Device:
    """As much of a device as a mesh asks for."""

    id: int
    slice_index: int
    process_index: int
    platform: str = "gpu"
    device_kind: str = "H100"


def slices(count: int, each: int) -> list[Device]:
    return [Device(s * each + i, s, s) for i in range(each) for s in range(count)]  # not in order


def test_one_size_may_be_what_is_left():
    assert dict(make_mesh(-1, 2, 2).shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert make_mesh(8).devices.flatten().tolist() == jax.devices()


def test_data_goes_across_slices_and_fsdp_stays_inside():
    mesh = make_mesh(4, 4, 1, devices=slices(2, 8))
    assert {d.slice_index for d in mesh.devices[:2].flat} == {0}
    assert {d.slice_index for d in mesh.devices[2:].flat} == {1}
    for row in mesh.devices[:, :, 0]:
        assert len({d.slice_index for d in row}) == 1


def test_fsdp_goes_across_slices_where_data_cannot():
    mesh = make_mesh(1, 16, 1, devices=slices(2, 8))
    assert [d.slice_index for d in mesh.devices[0, :, 0]] == [0] * 8 + [1] * 8
    mesh = make_mesh(2, 8, 1, devices=slices(4, 4))
    assert [[len({d.slice_index for d in row}) for row in mesh.devices[:, :, 0]]] == [[2, 2]]


@pytest.mark.parametrize("sizes", [(3, 1, 1), (2, 2, 1), (-1, -1, 1), (0, 1, 1), (-2, 1, 1), (16, 1, 1)])
def test_sizes_that_do_not_fit_are_one_line(sizes):
    with pytest.raises(UserError, match=r"mesh data=.*: (use|set)"):
        make_mesh(*sizes)


def test_slices_that_only_tensor_could_join_are_refused():
    with pytest.raises(UserError, match=r"mesh data=1, fsdp=1, tensor=16 .*2 slices.*use other mesh sizes"):
        make_mesh(1, 1, 16, devices=slices(2, 8))
