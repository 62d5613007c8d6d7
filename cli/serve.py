"""``tamga serve``: answer requests, one process or several, all rooms or some."""

from __future__ import annotations

import dataclasses

import click

from cli.context import Context, command_options


@click.command()
@click.option("--rooms", default="", help="Comma-separated rooms whose doors open here (default: the settings').")
@click.option("--host", default=None, help="The address to listen on.")
@click.option("--port", type=int, default=None, help="The port to listen on.")
@click.option("--workers", type=int, default=None, help="Processes.")
@command_options
def serve(context: Context, rooms: str, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve until stopped (SIGTERM or SIGINT)."""
    from app.serving import serve as run
    from app.settings import check_serve

    settings = context.settings
    said = settings.serve
    chosen = dataclasses.replace(
        said,
        rooms=tuple(room.strip() for room in rooms.split(",") if room.strip()) or said.rooms,
        host=host or said.host,
        port=port or said.port,
        workers=workers if workers is not None else said.workers,
    )
    settings = dataclasses.replace(settings, serve=chosen)
    check_serve(settings)
    context.progress(f"serving {', '.join(chosen.rooms)} on http://{chosen.host}:{chosen.port}")
    run(settings)
