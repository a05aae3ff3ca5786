"""Settings: where they come from, and the sentence that each bad one gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import settings
from pipeline.settings import Settings, SettingsError, libpq_url, shown_url

NAMES = [field.upper() for field in Settings.__struct_fields__]


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    """A ``.env`` of the test's own, empty at first."""
    path = tmp_path / ".env"
    path.touch()
    return path


def test_defaults_need_no_environment(tmp_path: Path) -> None:
    """From a bare clone, without a variable or a file, everything has a value that works."""
    assert settings.load({}, dotenv=tmp_path / "none") == Settings()


@pytest.mark.parametrize(
    "written",
    [
        "postgres://u:p@h:5433/d?sslmode=require",
        "postgresql://u:p@h:5433/d?sslmode=require",
        "postgresql+psycopg2://u:p@h:5433/d?sslmode=require",
    ],
)
def test_every_postgres_url_means_psycopg2(written: str, dotenv: Path) -> None:
    """SQLAlchemy reads plain postgresql:// as another driver; libpq knows nothing of drivers."""
    url = settings.load({"DATABASE_URL": written}, dotenv=dotenv).database_url
    assert url == "postgresql+psycopg2://u:p@h:5433/d?sslmode=require"
    assert libpq_url(url) == "postgresql://u:p@h:5433/d?sslmode=require"


@pytest.mark.parametrize("url", ["redis://h:1/2", "rediss://h", "unix:///s?db=3"])
def test_redis_urls_stay_as_they_are(url: str, dotenv: Path) -> None:
    """redis-py reads all three kinds itself."""
    assert settings.load({"REDIS_URL": url}, dotenv=dotenv).redis_url == url


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_can_come_from_a_file(name: str, tmp_path: Path, dotenv: Path) -> None:
    """Secrets are handed over as files; the line end an editor leaves is no part of the value."""
    values = {
        "DATABASE_URL": "postgresql+psycopg2://h/d",
        "READ_DATABASE_URL": "postgresql+psycopg2://h/d",
        "MIGRATOR_DATABASE_URL": "postgresql+psycopg2://h/d",
        "REDIS_URL": "redis://h",
        "RQ_REDIS_URL": "redis://h",
        "INFAMOUS_HOME": "/data",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "error",
    }
    value = values.get(name, "7")
    (tmp_path / "secret").write_text(f"{value}\n")
    loaded = settings.load({f"{name}_FILE": str(tmp_path / "secret")}, dotenv=dotenv)
    assert str(getattr(loaded, name.lower())).removesuffix(".0") == value


@pytest.mark.parametrize(
    ("environment", "in_dotenv", "rows"),
    [
        ({}, "BATCH_ROWS=11", 11),
        ({"BATCH_ROWS": "22"}, "BATCH_ROWS=11", 22),
        ({"BATCH_ROWS": "22", "BATCH_ROWS_FILE": "FILE"}, "", 22),
        ({"BATCH_ROWS": "", "BATCH_ROWS_FILE": "FILE"}, "", 33),
        ({"BATCH_ROWS_FILE": "FILE"}, "BATCH_ROWS=11", 33),
        ({"BATCH_ROWS": ""}, "BATCH_ROWS=11", 5000),
        ({}, "BATCH_ROWS", 5000),
        ({}, "export BATCH_ROWS='44'  # a comment", 44),
    ],
    ids=[
        "from .env", "environment over .env", "value over its file", "empty is not said",
        "environment's file over .env", "empty hides .env", "bare name in .env", "quoted in .env",
    ],
)  # fmt: skip
def test_precedence(
    environment: dict[str, str], in_dotenv: str, rows: int, tmp_path: Path, dotenv: Path
) -> None:
    """The environment, files it names included, wins over .env; a value wins over its file."""
    (tmp_path / "file").write_text("33")
    dotenv.write_text(in_dotenv)
    named = {k: v.replace("FILE", str(tmp_path / "file")) for k, v in environment.items()}
    assert settings.load(named, dotenv=dotenv).batch_rows == rows


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://h/d"),
        ("DATABASE_URL", "h:5432/d"),
        ("DATABASE_URL", "postgresql+asyncpg://h/d"),
        ("DATABASE_URL", "postgresql://[h/d"),
        ("DATABASE_URL", "postgresql://h:port/d"),
        ("DATABASE_URL", "postgresql://h:99999/d"),
        ("REDIS_URL", "http://h"),
        ("REDIS_URL", "h:6379"),
        ("REDIS_URL", "redis://[h"),
        ("RQ_REDIS_URL", "http://h"),
        ("RETENTION_DAYS", "0"),
        ("RETENTION_DAYS", "ninety"),
        ("REPORTS_KEPT", "0"),
        ("BATCH_ROWS", "-1"),
        ("BATCH_ROWS", "1.5"),
        ("BATCH_BYTES", "8MB"),
        ("BATCH_AGE_S", "0"),
        ("CLAIM_AFTER_S", "nan"),
        ("CLAIM_AFTER_S", "inf"),
        ("CLAIM_AFTER_S", "1e300"),
        ("CONNECT_TIMEOUT_S", "-3"),
        ("QUARANTINE_LIMIT", "-1"),
        ("QUARANTINE_LIMIT", "few"),
        ("METRICS_PORT", "-1"),
        ("METRICS_PORT", "65536"),
        ("METRICS_PORT", "http"),
        ("CONNECT_TIMEOUT_S", "1e400"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
    ],
)
@pytest.mark.parametrize("place", ["environment", "dotenv", "file"])
def test_a_bad_value_gets_a_sentence(
    name: str, value: str, place: str, tmp_path: Path, dotenv: Path
) -> None:
    """It names the variable, from wherever the value came, on one line."""
    environment = {}
    if place == "environment":
        environment = {name: value}
    elif place == "dotenv":
        dotenv.write_text(f"{name}='{value}'\n")
    else:
        (tmp_path / "file").write_text(value)
        environment = {f"{name}_FILE": str(tmp_path / "file")}
    with pytest.raises(SettingsError) as caught:
        settings.load(environment, dotenv=dotenv)
    sentence = str(caught.value)
    assert sentence.startswith(name)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    if not name.endswith("_URL"):
        assert value in sentence


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("METRICS_PORT", "abc", "a whole number from 0 to 65535"),
        ("METRICS_PORT", "65536", "a whole number from 0 to 65535"),
        ("QUARANTINE_LIMIT", "few", "a whole number of 0 or more"),
        ("BATCH_ROWS", "0", "a whole number of 1 or more"),
        ("CLAIM_AFTER_S", "soon", "a number of seconds above 0, up to 31536000 (a year)"),
        ("LOG_FORMAT", "xml", "console or json"),
        ("LOG_LEVEL", "loud", "debug, info, warning or error"),
    ],
)
def test_the_sentence_says_what_is_expected(
    name: str, value: str, expected: str, dotenv: Path
) -> None:
    """In words of whoever sets it, not in those of a library."""
    with pytest.raises(SettingsError) as caught:
        settings.load({name: value}, dotenv=dotenv)
    assert str(caught.value) == f"{name}={value} cannot be used: {expected} is expected."


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"\xff\xfe\x00", "not UTF-8")],
    ids=["missing", "binary"],
)
def test_a_file_that_cannot_be_read_gets_a_sentence(
    content: bytes | None, words: str, tmp_path: Path, dotenv: Path
) -> None:
    """A secret that was not mounted is no traceback."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=words) as caught:
        settings.load({"DATABASE_URL_FILE": str(path)}, dotenv=dotenv)
    assert str(caught.value).startswith(f"DATABASE_URL_FILE names {path}")


def test_a_bad_url_is_not_repeated(dotenv: Path) -> None:
    """It may hold a password, and the sentence may stand in a log."""
    with pytest.raises(SettingsError) as caught:
        settings.load({"DATABASE_URL": "postgresql://u:s3cret@[h/d"}, dotenv=dotenv)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:s3cret@h:6379/0", "redis://@h:6379/0"),
        ("postgresql://u:s3cret@h/d", "postgresql://u@h/d"),
        ("postgresql://u:s3:cr@et@h/d", "postgresql://u@h/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql+psycopg2:///d?host=/tmp", "postgresql+psycopg2:///d?host=/tmp"),
        ("postgresql:///d?host=/tmp&password=s3cret", "postgresql:///d?host=/tmp&password=..."),
        ("unix:///s?password=s3cret&db=1", "unix:///s?password=...&db=1"),
    ],
)
def test_shown_urls_hold_no_password(url: str, shown: str) -> None:
    """What logs and the screen show leads to the server and not into it."""
    assert shown_url(url) == shown


def test_home_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dotenv: Path) -> None:
    """A data folder that is named relatively stays the same when a process changes its directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert settings.load({"INFAMOUS_HOME": "data"}, dotenv=dotenv).home == tmp_path / "data"
    assert settings.load({"INFAMOUS_HOME": "~/x"}, dotenv=dotenv).home == Path("/home/someone/x")


def test_reports_are_at_home_or_where_it_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dotenv: Path
) -> None:
    """Absolute, as the data folder is: a worker is started elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    at_home = settings.load({"INFAMOUS_HOME": "data"}, dotenv=dotenv)
    assert at_home.reports == tmp_path / "data" / "reports"
    assert settings.load({"REPORT_DIR": "r"}, dotenv=dotenv).reports == tmp_path / "r"
    assert settings.load({"REPORT_DIR": "~/r"}, dotenv=dotenv).reports == Path("/home/someone/r")
    with pytest.raises(
        SettingsError, match=r"^REPORT_DIR=~nobody-here/r names the home of no user"
    ):
        settings.load({"REPORT_DIR": "~nobody-here/r"}, dotenv=dotenv)


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("QUARANTINE_LIMIT", "0", 0),
        ("QUARANTINE_LIMIT", "", None),
        ("METRICS_PORT", "0", 0),
        ("METRICS_PORT", "65535", 65535),
        ("METRICS_PORT", "", None),
        ("LIVENESS_FILE", "", None),
        ("LIVENESS_FILE", "/run/alive", "/run/alive"),
    ],
)
def test_zero_is_a_value_and_nothing_is_off(
    name: str, value: str, meant: object, dotenv: Path
) -> None:
    """0 is the strictest limit, or any free port; an empty variable leaves the feature off."""
    loaded = settings.load({name: value}, dotenv=dotenv)
    assert getattr(loaded, name.lower()) == meant


def test_the_archive_is_beside_an_embedded_redis(tmp_path: Path) -> None:
    """Whoever keeps all in one folder has an archive there; servers that are named bring none along."""
    own = Settings(infamous_home=str(tmp_path))
    assert own.archive == str(tmp_path.resolve() / "archive")
    assert Settings(redis_url="redis://h").archive is None
    assert Settings(redis_url="redis://h", archive_url="s3://b/a").archive == "s3://b/a"
    assert Settings(archive_url="/a").archive == "/a"


def test_an_archive_in_memory_is_none(dotenv: Path) -> None:
    """What is put there is gone with the process, and the stream would be trimmed all the same."""
    with pytest.raises(SettingsError, match="ARCHIVE_URL names the memory of a process"):
        settings.load({"ARCHIVE_URL": "memory://archive"}, dotenv=dotenv)


@pytest.mark.parametrize(
    ("environment", "reads_at", "source"),
    [
        ({}, None, None),
        ({"DATABASE_URL": "postgresql://infamous_bi@h/d"}, "infamous_bi@h/d", None),
        ({"READ_DATABASE_URL": "postgresql://me@r/d"}, "me@r/d", None),
        ({"READ_DATABASE_URL": "postgresql://infamous_bi@r/d"}, "infamous_bi@r/d", "infamous_bi@r/d"),
        (
            {"DATABASE_URL": "postgresql://h/d", "READ_DATABASE_URL": "postgresql://infamous_bi@r/d",
             "REDASH_SOURCE_URL": "postgresql://infamous_bi@s/d"},
            "infamous_bi@r/d", "infamous_bi@s/d",
        ),
    ],
    ids=["nothing said", "one database", "somebody reads", "the reader reads", "Redash elsewhere"],
)  # fmt: skip
def test_where_is_read(
    environment: dict[str, str], reads_at: str | None, source: str | None, dotenv: Path
) -> None:
    """Where it was said, else in the one database; Redash is given no role that may do more than read."""
    loaded = settings.load(environment, dotenv=dotenv)
    found = [url and url.partition("://")[2] for url in (loaded.reading_url, loaded.source_url)]
    assert found == [reads_at, source]
