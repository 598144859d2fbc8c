"""No value of any type for any field brings more than a line that says what is wrong, in a config or as an argument."""

import pathlib

import pytest
from ml_collections import ConfigDict, config_dict

from stgrpo import envs
from stgrpo.cli import check, parse
from stgrpo.config import FIELDS, SECTIONS, base
from stgrpo.config.field import Number, Texts
from stgrpo.errors import UserError
from stgrpo.plan.checks import validate

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"


@pytest.fixture(autouse=True, scope="module")
def looked_up_once():
    """The packages of this machine are searched for environments once, not for each value."""
    with pytest.MonkeyPatch.context() as patch:
        declared = tuple(envs._declared())
        patch.setattr(envs, "_declared", lambda: declared)
        yield


class Hostile:
    def __repr__(self):
        raise RuntimeError("no")


NASTY = [
    *(None, (), (1, 2), [], {}, {"a": 1}, -1, 0, 10**20, 10**400, 10**5000, 0.5, 2**-1074, -0.0),
    *(float("inf"), -float("inf"), float("nan"), "", " ", "x" * 300, "a/" * 3000, "é", "\n", "\0", "\udc80"),
    *(True, False, ("",), ("x", "x"), ((),), ([1],), ("x" * 10_000,), object(), Hostile(), len, b"x", 1j, {1}, base()),
]
ARGUMENTS = [
    *("None", "()", "(1,2)", "-1", "0", "1" + 20 * "0", "1e400", "inf", "-inf", "nan", "", " ", "x" * 300, "a/" * 3000),
    *(
        "é",
        "\n",
        "\udc80",
        "True",
        "('',)",
        "('x','x')",
        "((1,),)",
        "[{}]",
        "{",
        "(" * 300,
        "1" * 5000,
        "-" * 9000 + "1",
    ),
]


def put(config, name, value):
    """A value in a field, past the checks of types."""
    section, _, leaf = name.rpartition(".")
    with config.ignore_type(), config.unlocked():
        holder = config[section] if section else config
        del holder[leaf]
        holder[leaf] = value


@pytest.mark.parametrize("name", [*FIELDS, *SECTIONS])
def test_any_value_in_a_config_is_an_error_in_one_line_or_none(name):
    for value in NASTY:
        config = base()
        put(config, name, value)
        errors = validate(config)
        assert all("\n" not in error and len(error) < 1000 for error in errors)
        if name in FIELDS and not FIELDS[name].fits(value):
            assert any(error.startswith(f"{name}=") and ": use " in error for error in errors), (value, errors)


def refusal(names, text):
    """What a command line says that gives these fields a value; empty if it takes it."""
    try:
        check(parse(["run", SMOKE, "--dry_run", *(f"--config.{name}={text}" for name in names)]).config)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("type_", [int, float, bool, str, tuple])
def test_any_argument_is_taken_or_refused_in_one_line(type_):
    """All fields of a type at one time: what absl takes for one it takes for all, and all errors come at once."""
    names = [name for name, field in FIELDS.items() if type(field.default) is type_]
    for text in ARGUMENTS:
        assert "\n" not in refusal(names, text)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
def test_any_argument_of_one_field_is_taken_or_refused_in_one_line(name):
    for text in ARGUMENTS:
        assert "\n" not in refusal([name], text)


@pytest.mark.parametrize(
    "argument", ["-config.grpo.betta=1", "--noconfig.grpo.betta", "--config.=1", "--config.a\nb=1"]
)
def test_any_spelling_of_a_field_that_is_none_is_refused(argument):
    with pytest.raises(UserError, match="is not a field of the config"):
        parse(["run", SMOKE, "--dry_run", argument])


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if isinstance(field, Number)])
def test_a_number_outside_its_limits_is_told_the_limit_and_what_to_use(name):
    field = FIELDS[name]
    for value in (-(10**20), 10**20, float("inf"), float("-inf"), float("nan")):
        if field.fits(value):
            (error,) = field.errors(name, value)
            assert error.startswith(f"{name}=") and ": use " in error
            fix = error.rpartition(": use ")[2].removesuffix(", the default").removeprefix("one from ").split()[0]
            assert list(field.errors(name, type(field.default)(fix))) == []


@pytest.mark.parametrize(
    "name", [name for name, field in FIELDS.items() if isinstance(field, Texts) and not field.repeats]
)
def test_nothing_is_given_twice(name):
    entry = (FIELDS[name].default or ("burger" if name == "evaluation.tasks" else "http://a:1",))[0]
    (error,) = FIELDS[name].errors(name, (entry, entry))
    assert "twice" in error and error.endswith("give each once")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("seed", 2**32, "seed=4294967296 must be at most 4294967295: use 4294967295"),
        ("seed", True, "seed=True must be a whole number: use 0, the default"),
        ("model.kv_heads", 0, "model.kv_heads=0 must be at least 1: use 1"),
        ("grpo.kl_coef", float("nan"), "grpo.kl_coef=nan is no number: use 0.001, the default"),
        ("grpo.kl_coef", float("inf"), "grpo.kl_coef=inf must be at most 1000: use 1000"),
        ("mesh.fsdp", 0, "mesh.fsdp=0 must be -1, or at least 1: use 1"),
        ("rollout.servers", None, "rollout.servers=None must be a tuple of texts: use (), the default"),
        ("rollout.servers", (1, 2), "rollout.servers=(1, 2) must be a tuple of texts: use (), the default"),
        ("model.path", "x" * 300, "has a name of 300 bytes, at most 255 are possible: use a shorter one"),
        ("env.tasks", (), "env.tasks is empty: name at least one task"),
        ("env.engine", "our", "env.engine='our' is unknown: did you mean 'ours'?"),
        ("client.key_variable", "a=b", "is no name of an environment variable: use one such as 'OPENAI_API_KEY'"),
    ],
)
def test_the_value_the_limit_and_the_nearest_that_is_valid(field, value, says):
    config = base()
    put(config, field, value)
    (error,) = validate(config)
    assert says in error


def test_what_relates_fields_is_not_asked_of_values_that_are_wrong_by_themselves():
    config = base()
    config.sft.batch, config.sft.micro_batches, config.env.name, config.env.tasks = 0, 3, "robot", ("hall",)
    assert [error.split("=")[0] for error in validate(config)] == ["env.name", "sft.batch"]


def test_a_config_of_another_form_is_told_what_it_lacks_and_has_too_much():
    config = base()
    with config.unlocked():
        config.sft.lr = 1.0
        del config.grpo.kl_coef
        del config.mesh
    assert validate(config) == [
        "mesh=None must be a section: begin with stgrpo.config.base()",
        "sft.lr is not a field of the config: did you mean 'sft.learning_rate'?",
        "grpo.kl_coef is missing: begin with stgrpo.config.base()",
    ]
    assert validate(ConfigDict()) and validate(ConfigDict({"sft": {"batch": config_dict.required_placeholder(int)}}))


@pytest.mark.parametrize("body", ["return None", "return {}", "return 3", "return ConfigDict()", "raise SystemError"])
def test_a_file_that_gives_no_config_is_refused(body, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(f"from ml_collections import ConfigDict\n\n\ndef get_config():\n    {body}\n")
    with pytest.raises(UserError):
        check(parse(["run", f"--config={file}", "--dry_run", "--config.sft.batch=4"]).config)
