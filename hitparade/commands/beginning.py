"""What a new user needs first."""

from pathlib import Path

from hitparade.arguments import positive
from hitparade.commands.declaring import Commands


def declare(commands: Commands) -> None:
    """The demo, servers to try things on, topics, settings, and what is wrong with them."""
    _demo(commands)
    embedded = commands.add(
        "embedded",
        "pipeline.embedded",
        "broker and Redis in the foreground; prints the settings to use them",
        json="one object with the settings",
        examples=("embedded --dir /tmp/hitparade        # Redis' data is there at the next start",),
    )
    embedded.add_argument("--kafka-port", type=int, default=0, metavar="PORT", help="a free one unless given")
    embedded.add_argument("--redis-port", type=int, default=0, metavar="PORT", help="a free one unless given")
    embedded.add_argument("--dir", type=Path, metavar="DIR", help="keep Redis' data here")
    commands.add(
        "topics",
        "pipeline.topics",
        "create the topics that are missing, and check the others",
        json="one object a topic",
    )
    commands.add("config", "checking.config", "the settings in force, secrets masked", json="one object a setting")
    completion = commands.add(
        "completion",
        "completing.completion",
        "print what lets a shell complete commands, options and files",
        examples=(
            "completion bash > ~/.local/share/bash-completion/completions/hitparade",
            "completion zsh > ~/.zfunc/_hitparade     # a folder of fpath; compinit after that",
            "completion fish > ~/.config/fish/completions/hitparade.fish",
        ),
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="which shell is to complete them")
    commands.add(
        "doctor", "checking.doctor", "what is reachable, what is wrong, and what to do", json="one object a check"
    )


def _demo(commands: Commands) -> None:
    demo = commands.add(
        "demo",
        "demo.run",
        "run the whole pipeline on an embedded broker and Redis, and show the lists",
        json="every playlist record, then the accounting",
        examples=(
            "demo",
            "demo --serve                          # and look at them in a browser",
            "demo --sessions sessions.jsonl.gz --tracks tracks.jsonl",
            "demo --json | tail -1 | jq .counted",
        ),
    )
    demo.add_argument(
        "--sessions", type=Path, metavar="FILE", help="real session events (JSON lines) instead of simulated ones"
    )
    demo.add_argument("--tracks", type=Path, metavar="FILE", help="the catalogue of --sessions (JSON lines)")
    demo.add_argument("--weeks", type=positive, default=12, metavar="N", help="simulated weeks (12)")
    demo.add_argument("--seed", type=int, default=1, metavar="N", help="of the simulation (1)")
    demo.add_argument("--serve", action="store_true", help="then serve its lists over HTTP until Ctrl-C")
