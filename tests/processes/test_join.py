"""How the processes of a run find each other: the flag, variables, Slurm's GPUs."""

import pytest

from stgrpo.errors import UserError
from stgrpo.processes import failure
from stgrpo.processes.join import HEARTBEAT, Address, of_environment, parse, slurm_devices


def test_an_address_says_where_how_many_and_which():
    assert parse("10.0.0.1:1234,4,3") == Address("10.0.0.1:1234", 4, 3)
    assert parse("[::1]:1234,2,0") == Address("[::1]:1234", 2, 0)
    assert parse("auto") is None


@pytest.mark.parametrize(
    "text",
    ["", "2", "host,2,0", "host:1234", "host:1234,2", "host:1234,2,2", "host:1234,0,0", "host:0,2,0", "host:99999,2,0",
     "host:1234,2,-1", "a b:1234,2,0", "host:1234,2,0,0", "AUTO", "host:1234,2,0\n"],
)  # fmt: skip
def test_anything_else_is_refused(text):
    with pytest.raises(UserError, match=r"give HOST:PORT,COUNT,ID"):
        parse(text)


def test_variables_give_the_address():
    jobset = {"JAX_COORDINATOR_ADDRESS": "run-0-0.run:1234", "JAX_NUM_PROCESSES": "4", "JOB_COMPLETION_INDEX": "2"}
    assert of_environment(jobset) == Address("run-0-0.run:1234", 4, 2)
    assert of_environment({**jobset, "JAX_PROCESS_ID": "3"}) == Address("run-0-0.run:1234", 4, 3)
    assert of_environment({"JAX_COORDINATOR_ADDRESS": "host:1234"}) is None  # JAX may know the rest
    with pytest.raises(UserError, match="set JAX_PROCESS_ID"):
        of_environment({"JAX_COORDINATOR_ADDRESS": "host:1234", "JAX_NUM_PROCESSES": "4"})
    with pytest.raises(UserError, match="out of range"):
        of_environment({**jobset, "JAX_PROCESS_ID": "4"})


def test_a_slurm_task_has_all_gpus_of_its_host_or_its_own_one():
    one_a_host = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2"}
    assert slurm_devices({**one_a_host, "SLURM_GPUS_ON_NODE": "8"}) == list(range(8))
    assert slurm_devices({**one_a_host, "CUDA_VISIBLE_DEVICES": "4,5"}) == [0, 1]
    one_a_gpu = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "16", "SLURM_STEP_NUM_NODES": "2"}
    assert slurm_devices({**one_a_gpu, "SLURM_GPUS_ON_NODE": "8"}) is None  # JAX takes the one of SLURM_LOCALID
    assert slurm_devices({**one_a_gpu, "CUDA_VISIBLE_DEVICES": "3"}) == [0]  # Slurm shows it no other
    assert slurm_devices({"CUDA_VISIBLE_DEVICES": "0,1"}) is None  # no Slurm
    assert slurm_devices(one_a_host) is None  # no GPUs


def test_our_watch_speaks_before_jax_ends_the_process():
    assert HEARTBEAT / 2 >= failure.LOST + failure.BEAT  # JAX may count half of it: docs/log.md
