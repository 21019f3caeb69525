"""How the server logs: for people, or as JSON lines for machines."""

import logging
import sys

import structlog
from structlog.typing import EventDict, Processor

from queueapi.config import Settings


def configure_logging(settings: Settings, worker: int | None = None) -> None:
    """Route structlog and the standard library's logging to stderr, in the chosen format.

    Each line says which `worker` writes it, where there are several.
    """

    def name_worker(_: object, __: str, event: EventDict) -> EventDict:
        if worker is not None:
            event["worker"] = worker
        return event

    level = getattr(logging, settings.log_level.upper())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        name_worker,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    json = settings.log_format == "json"
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The richer one shows local variables, and so secrets.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    tracebacks: list[Processor] = [structlog.processors.format_exc_info] if json else []
    structlog.configure(
        processors=[*shared, *tracebacks, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *tracebacks,
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=max(level, logging.INFO), force=True)
    logging.getLogger("alembic").setLevel(max(level, logging.WARNING))
    logging.getLogger("uvicorn.access").disabled = True  # queueapi.access writes that line
