"""What runs for as long as there is a pipeline, and the hand that fires."""

from hitparade.commands.declaring import Commands, add_workers


def declare(commands: Commands) -> None:
    """Consumers, the scheduler, the trigger, the HTTP service."""
    _consume(commands.group("consume", "run a consumer"))
    schedule = commands.add(
        "schedule",
        "pipeline.schedule",
        "trigger every week that has ended, missed ones too",
        json="with --once, one object a week that was triggered",
        examples=(
            "schedule                              # until SIGTERM or Ctrl-C",
            "schedule --once --event-time          # what a replay has made due",
        ),
    )
    schedule.add_argument(
        "--event-time", action="store_true", help="a week ends when stream time has passed it, not the clock"
    )
    schedule.add_argument("--once", action="store_true", help="fire what is due now, and end")
    trigger = commands.add(
        "trigger",
        "pipeline.trigger",
        "trigger the last closed week, or the one given",
        json="one object a week that was triggered",
        examples=("trigger", "trigger 2023-W24", "trigger --all"),
    )
    trigger.add_argument("week", nargs="?", metavar="WEEK", help="a closed week such as 2023-W24")
    trigger.add_argument("--all", action="store_true", help="every closed week that is kept, oldest first")
    commands.add(
        "serve",
        "serving.serve",
        "the HTTP service and its page, until SIGTERM or Ctrl-C",
        json="one object: where it serves",
        examples=("serve                                 # HITPARADE_HTTP_HOST and HITPARADE_HTTP_PORT say where",),
    )


def _consume(consume: Commands) -> None:
    for name, text in (
        ("sessions", "count session events into Redis"),
        ("tracks", "keep the catalogue in Redis"),
        ("weekly", "score closed weeks and publish their lists"),
    ):
        command = consume.add(
            name,
            f"pipeline.consume_{name}",
            text,
            json="each list as it is published" if name == "weekly" else "one object at the end: what was counted",
            examples=(
                f"{f'consume {name}':<38}# until SIGTERM or Ctrl-C",
                f"consume {name} --until-idle",
            ),
        )
        command.add_argument("--until-idle", action="store_true", help="end when everything has been read")
        if name == "weekly":
            add_workers(command, "tracks that are scored")
        else:
            command.add_argument(
                "--accept-loss",
                action="store_true",
                help="go on where the log has lost records, and tally them as lost",
            )
