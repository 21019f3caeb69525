"""Settings are what `.env.example` and the documentation say, and bad ones are refused in words."""

import itertools
import re
import secrets
from pathlib import Path

import pytest
from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from queueapi.config import ConfigurationError, Settings, rates
from queueapi.main import create_app

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / ".env.example"
# Variables that are not ours but docker/compose.yaml's.
OF_COMPOSE = {"POSTGRES_PASSWORD"}


def variable(name: str) -> str:
    """The environment variable of a field."""
    alias = Settings.model_fields[name].validation_alias
    return str(alias) if alias else f"QUEUEAPI_{name.upper()}"


FIELDS = {variable(name): name for name in Settings.model_fields}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of this machine's variables is a setting of this test's."""
    for name in FIELDS:
        monkeypatch.delenv(name, raising=False)


def settings_from(text: str, folder: Path) -> Settings:
    file = folder / "settings.env"
    file.write_text(text)
    return Settings(_env_file=file)


def test_the_example_lists_all_settings_and_no_other() -> None:
    assert dotenv_values(EXAMPLE).keys() == FIELDS.keys() | OF_COMPOSE


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_the_example_shows_the_default(name: str, tmp_path: Path) -> None:
    value = dotenv_values(EXAMPLE)[name]
    default = Settings.model_fields[FIELDS[name]].default
    if not value:
        assert default in (None, "", PydanticUndefined), f"{name}={default} is the default"
        return
    loaded = settings_from(f"{name}={value}\n", tmp_path)
    assert getattr(loaded, FIELDS[name]) == default
    # The line does something: another value would be another setting.
    assert FIELDS[name] in loaded.model_fields_set


def test_each_setting_of_the_example_has_a_comment_above() -> None:
    lines = EXAMPLE.read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"[A-Z_]+=", line):
            assert above.startswith("# "), f"{line} has no comment"
            assert len(above) <= 100


def test_the_example_works_once_the_secret_is_set(tmp_path: Path) -> None:
    secret = secrets.token_hex(32)
    text = EXAMPLE.read_text()
    assert "\nJWT_SECRET=\n" in text
    loaded = settings_from(text.replace("\nJWT_SECRET=\n", f"\nJWT_SECRET={secret}\n"), tmp_path)
    assert loaded.signing_key == secret
    assert loaded.model_copy(update={"jwt_secret": None}) == Settings(_env_file=None)


def test_the_example_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"JWT_SECRET is not set.*openssl rand -hex 32"):
        _ = settings_from(EXAMPLE.read_text(), tmp_path).signing_key


def documented() -> dict[str, str]:
    """The settings table of the documentation: name → default, as written."""
    page = (ROOT / "docs" / "configuration.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]*?) \|", page, re.M)
    assert len(rows) == len(dict(rows)), "a setting stands twice in docs/configuration.md"
    return dict(rows)


def test_the_documentation_lists_all_settings_and_no_other() -> None:
    assert documented().keys() == FIELDS.keys()


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_the_documentation_shows_the_default(name: str) -> None:
    shown = documented()[name]
    value = dotenv_values(EXAMPLE)[name]
    assert shown == (f"`{value}`" if value else "–")


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("QUEUEAPI_MAX_GPUS", "")  # empty is as good as absent
    loaded = settings_from("PORT=9001\nQUEUEAPI_MAX_GPUS=7\nUNKNOWN=1\n", tmp_path)
    assert (loaded.port, loaded.max_gpus) == (9000, 7)


def test_throttles_take_the_words_of_their_library() -> None:
    settings = Settings(_env_file=None, throttle_read="1000/day", throttle_anonymous="100 per day")
    assert [str(rate) for rate in rates(settings.throttle_read)] == ["1000 per 1 day"]
    assert [str(rate) for rate in rates("10/minute;50/hour")] == [
        "10 per 1 minute",
        "50 per 1 hour",
    ]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("PORT=70000", "PORT"),
        ("PORT=http", "PORT"),
        ("MAX_CONCURRENT_JOBS=0", "MAX_CONCURRENT_JOBS"),
        ("SCHEDULER_INTERVAL_SECONDS=-1", "SCHEDULER_INTERVAL_SECONDS"),
        ("QUEUEAPI_THROTTLE_READ=often", "often"),
        ("QUEUEAPI_LOCAL_SANDBOX=docker", "local_sandbox"),
        ("QUEUEAPI_LOG_LEVEL=loud", "log_level"),
        ("QUEUEAPI_WAIT_BOOST_CAP=0.5", "wait_boost_cap"),
        ("QUEUEAPI_FAIR_SHARE_MIN=3", "QUEUEAPI_FAIR_SHARE_MIN"),
        ("QUEUEAPI_FAIRNESS=equal", "fairness"),
        ("QUEUEAPI_USER_SHARE_MAX=0.5", "user_share_max"),
        ("QUEUEAPI_WEIGHT_GPU=-1", "weight_gpu"),
        ("QUEUEAPI_WEIGHT_MEMORY_GB=inf", "weight_memory_gb"),
        ("QUEUEAPI_WEIGHT_CPU=0", "QUEUEAPI_WEIGHT_CPU"),
    ],
)
def test_a_bad_value_is_refused_by_name(line: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=word):
        settings_from(line + "\n", tmp_path)


@pytest.mark.parametrize(
    ("secret", "word"),
    [
        ("", "not set"),
        ("changeme", "well-known"),
        ("your-secret-key", "well-known"),
        ("CHANGE-THIS-" + "x1y2z3a4" * 8, "well-known"),
        ("0123456789abcdef", "too weak"),
        ("a" * 64, "too weak"),
    ],
)
def test_a_server_with_a_weak_secret_does_not_start(secret: str, word: str) -> None:
    settings = Settings(
        _env_file=None, jwt_secret=secret, database_url="postgresql://nobody@127.0.0.1:1/none"
    )
    with pytest.raises(ConfigurationError, match=word) as refused:
        create_app(settings)
    assert not secret or secret not in str(refused.value)


def test_secrets_are_not_shown() -> None:
    secret, token = secrets.token_hex(32), secrets.token_hex(32)
    settings = Settings(_env_file=None, jwt_secret=secret, metrics_token=token)
    shown = repr(settings) + str(settings.model_dump()) + settings.model_dump_json()
    assert secret not in shown
    assert token not in shown


@pytest.mark.parametrize("words", ["a b", "a,,b", "a&b", "x" * 51])
def test_features_that_no_constraint_could_name_are_refused(words: str) -> None:
    with pytest.raises(ValidationError, match="is not a word"):
        Settings(_env_file=None, local_features=words)
