"""``tamga config``: whether the settings are right."""

from __future__ import annotations

import click

from cli.context import Context, command_options


@click.group()
def config() -> None:
    """The instance's configuration."""


@config.command()
@command_options
def check(context: Context) -> None:
    """Read the settings, reach the database and the token, and say the first thing that is wrong."""
    from app import health

    settings = context.settings
    checked = health.check_all(context.services)
    lines = [f"{name}: ok" for name in checked]
    context.emit(
        {"configuration": str(context.configuration), "base_url": settings.base_url, "checked": checked},
        "\n".join([f"{context.configuration}: settings are right", *lines]),
    )
