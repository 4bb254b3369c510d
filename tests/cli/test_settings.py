"""Flags, environment variables and their defaults."""

from __future__ import annotations

import argparse

import pytest

from threadwire.cli.errors import UsageError
from threadwire.cli.settings import OPTIONS, ServeSettings, add_options, is_loopback, read_settings


def read(*arguments: str, **environ: str) -> ServeSettings:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("targets", nargs="*")
    add_options(parser)
    return read_settings(parser.parse_args(arguments), environ)


def test_without_flags_and_variables_the_defaults_hold() -> None:
    assert read() == ServeSettings(
        targets=(),
        host="127.0.0.1",
        port=8000,
        store="sqlite:///threadwire.db",
        workers=1,
        lease_s=5.0,
        allow_origins=(),
        on_disconnect=15.0,
        drain_s=10.0,
        history=10_000,
        show_errors=True,
        debug=False,
        log_level="info",
    )


def test_flags_are_read() -> None:
    settings = read(
        *(
            "a.py:agent",
            "b=c:d",
            "--host",
            "0.0.0.0",
            "--port",
            "0",
            "--store",
            "memory:",
            "--drain-s",
            "0.5",
        ),
        *("--allow-origin", "https://A.example.com:443", "--allow-origin", "http://localhost:3000"),
        *("--on-disconnect", "continue"),
        *("--history", "5", "--show-errors", "--debug", "--log-level", "Warning"),
    )
    assert settings == ServeSettings(
        targets=("a.py:agent", "b=c:d"),
        host="0.0.0.0",
        port=0,
        store="memory:",
        workers=1,
        lease_s=5.0,
        allow_origins=("https://a.example.com", "http://localhost:3000"),
        on_disconnect=None,
        drain_s=0.5,
        history=5,
        show_errors=True,
        debug=True,
        log_level="warning",
    )


def test_variables_are_read() -> None:
    settings = read(
        THREADWIRE_HOST="::1",
        THREADWIRE_PORT="9000",
        THREADWIRE_STORE="memory:",
        THREADWIRE_ALLOW_ORIGIN="https://a.example.com, https://b.example.com *",
        THREADWIRE_ON_DISCONNECT="cancel",
        THREADWIRE_DRAIN_S="30",
        THREADWIRE_HISTORY="7",
        THREADWIRE_SHOW_ERRORS="no",
        THREADWIRE_DEBUG="1",
        THREADWIRE_LOG_LEVEL="debug",
    )
    assert settings == ServeSettings(
        targets=(),
        host="::1",
        port=9000,
        store="memory:",
        workers=1,
        lease_s=5.0,
        allow_origins=("https://a.example.com", "https://b.example.com", "*"),
        on_disconnect=0.0,
        drain_s=30,
        history=7,
        show_errors=False,
        debug=True,
        log_level="debug",
    )


def test_every_option_has_a_variable_of_its_name() -> None:
    assert {option.variable for option in OPTIONS} == {
        f"THREADWIRE_{option.flag.removeprefix('--').replace('-', '_').upper()}" for option in OPTIONS
    }


def test_flags_win_over_variables() -> None:
    assert read("--port", "1", THREADWIRE_PORT="2").port == 1
    assert read("--no-show-errors", THREADWIRE_SHOW_ERRORS="yes").show_errors is False
    settings = read("--allow-origin", "http://a", THREADWIRE_ALLOW_ORIGIN="http://b")
    assert settings.allow_origins == ("http://a",)


def test_a_flag_hides_a_variable_that_is_wrong() -> None:
    assert read("--port", "1", THREADWIRE_PORT="wrong").port == 1


def test_an_empty_variable_counts_as_none() -> None:
    assert read(THREADWIRE_PORT="", THREADWIRE_ALLOW_ORIGIN="").port == 8000


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("example.com", False),
    ],
)
def test_errors_are_shown_to_this_machine_only_unless_said_otherwise(host: str, shown: bool) -> None:
    assert is_loopback(host) is shown
    assert read("--host", host).show_errors is shown
    assert read("--host", host, "--show-errors").show_errors is True
    assert read("--host", host, "--no-show-errors").show_errors is False


def test_an_ipv6_address_may_stand_in_brackets() -> None:
    assert read("--host", "[::1]").host == "::1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "http://example.com"),
        ("host", "a b"),
        ("port", "http"),
        ("port", "-1"),
        ("port", "65536"),
        ("port", "٣"),
        ("allow-origin", "example.com"),
        ("allow-origin", "https://example.com/path"),
        ("on-disconnect", "soon"),
        ("on-disconnect", "-1"),
        ("on-disconnect", "nan"),
        ("drain-s", "soon"),
        ("drain-s", "-1"),
        ("drain-s", "nan"),
        ("drain-s", "inf"),
        ("history", "0"),
        ("history", "1.5"),
        ("history", "9" * 20),
        ("log-level", "loud"),
    ],
)
def test_a_wrong_value_names_its_flag_or_its_variable(name: str, value: str) -> None:
    with pytest.raises(UsageError) as error:
        read(f"--{name}={value}")
    assert str(error.value).startswith(f"--{name}: ")
    variable = f"THREADWIRE_{name.upper().replace('-', '_')}"
    with pytest.raises(UsageError) as error:
        read(**{variable: value})
    assert str(error.value).startswith(f"{variable}: ")


def test_a_switch_is_yes_or_no() -> None:
    with pytest.raises(UsageError, match="THREADWIRE_DEBUG: 'maybe' is neither yes nor no"):
        read(THREADWIRE_DEBUG="maybe")


def test_workers_need_a_store_that_processes_share() -> None:
    postgresql = ("--store", "postgresql://user:secret@host/threads")
    settings = read("--workers", "3", "--lease-s", "2", *postgresql)
    assert (settings.workers, settings.lease_s) == (3, 2.0)
    for store in ("sqlite:///threads.db", "memory:"):
        with pytest.raises(
            UsageError, match=r"--workers: 3 processes can't share a \w+: store, which belongs"
        ):
            read("--workers", "3", "--store", store)
    assert read("--store", "memory:").workers == 1


@pytest.mark.parametrize("text", ["0", "0.1", "-1", "x", "4000", "nan"])
def test_a_lease_is_a_time_that_makes_sense(text: str) -> None:
    with pytest.raises(UsageError, match="--lease-s"):
        read("--lease-s", text)
